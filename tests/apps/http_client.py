#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Fetch URL over HTTP: http_client.py keepalive|single COUNT HOST PORT PATH; prints the sums of the bodies."""
import hashlib
import http.client
import sys
import urllib.request


def main():
    how, count, host, port, path = sys.argv[1:]
    if how == "keepalive":
        conn = http.client.HTTPConnection(host, int(port), timeout=60)
        sock = None
        for _ in range(int(count)):
            conn.request("GET", path)
            if sock is not None and conn.sock is not sock:
                sys.exit("the connection was not kept")
            sock = conn.sock
            print(hashlib.sha256(conn.getresponse().read()).hexdigest())
        conn.close()
    else:
        for _ in range(int(count)):
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=60) as answer:
                print(hashlib.sha256(answer.read()).hexdigest())


main()
