#!/bin/bash
# SPDX-License-Identifier: MIT
# nginx.sh - an nginx of our own in namespace b. To be sourced after app.sh.

nginx_configure() {
	mkdir -p "$WORK/www" "$WORK/tmp"
	chmod 777 "$WORK/tmp"
	cat >"$WORK/nginx.conf" <<-CONF
		daemon off;
		pid $WORK/nginx.pid;
		error_log $WORK/nginx.log;
		worker_processes 1;
		worker_rlimit_nofile 4096;
		events { worker_connections 1024; }
		http {
			access_log off;
			sendfile on;
			default_type application/octet-stream;
			keepalive_requests 100000000;
			keepalive_timeout 600;
			client_body_temp_path $WORK/tmp/body;
			proxy_temp_path $WORK/tmp/proxy;
			fastcgi_temp_path $WORK/tmp/fastcgi;
			uwsgi_temp_path $WORK/tmp/uwsgi;
			scgi_temp_path $WORK/tmp/scgi;
			include $WORK/listen.conf;
		}
	CONF
}

# nginx_start P PORT
nginx_start() {
	echo "server { listen $IP_B:$2; root $WORK/www; }" >"$WORK/listen.conf"
	: >"$WORK/nginx.log"
	ns_start server b "$1" nginx -e "$WORK/nginx.log" -c "$WORK/nginx.conf"
	wait_listen b "$2"
}

# Called in app_check: what nginx found worth a line is part of the result.
nginx_check_log() { check_empty "$RUN: nginx's error log" "$WORK/nginx.log"; }
