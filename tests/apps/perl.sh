#!/bin/bash
# SPDX-License-Identifier: MIT
# Perl's IO::Socket and IO::Select: a server with one loop over all its connections, a client that keeps several busy.
. "${srcdir:-$(dirname "$0")/../..}/tests/lib/app.sh"
need perl
perl -MIO::Socket::INET -MIO::Select -MDigest::SHA -e 1 2>/dev/null || skip "Perl's modules IO::Socket, IO::Select and Digest::SHA are not installed"

APP_CASES="select"
APP_MODES="both nodaemon oneend killed"
CONNECTIONS=6

rounds() {
	case $MODE in
	killed) echo 6000 ;;
	plain | both) if full; then echo 20000; else echo 4000; fi ;;
	*) echo 1000 ;;
	esac
}

app_prepare() {
	# what comes goes back, by sysread and syswrite of what select says
	cat >"$WORK/server.pl" <<-'PL'
		use strict; use warnings; use IO::Socket::INET; use IO::Select;
		$SIG{TERM} = sub { exit 0 };
		my $l = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 20, ReuseAddr => 1) or die "listen: $@";
		my ($r, $w, %out) = (IO::Select->new($l), IO::Select->new);
		while (1) {
			my ($in, $can) = IO::Select->select($r, $w, undef);
			for my $s (@$in) {
				if ($s == $l) { my $c = $l->accept; $c->blocking(0); $r->add($c); $out{$c} = ''; next }
				my $n = sysread($s, $out{$s}, 65536, length $out{$s});
				if ($n) { $w->add($s) } elsif (defined $n) { $r->remove($s) ; if ($out{$s} eq '') { $w->remove($s); close $s } }
			}
			for my $s (@$can) {
				my $n = syswrite($s, $out{$s});
				substr($out{$s}, 0, $n) = '' if defined $n;
				if ($out{$s} eq '') { $w->remove($s); close $s if !$r->exists($s) }
			}
		}
	PL
	cat >"$WORK/client.pl" <<-'PL'
		use strict; use warnings; use IO::Socket::INET; use IO::Select; use Digest::SHA;
		my ($host, $port, $n, $rounds) = @ARGV;
		my ($sel, %sum, %due, %left, @all) = (IO::Select->new);
		sub ask { my ($s, $i) = @_; my $m = pack('N', $i) x (1 + $i * 37 % 900); $due{$s} = length $m; $s->print($m) or die "send: $!"; $s->flush }
		for (1 .. $n) {
			my $s = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Timeout => 10) or die "connect: $@";
			$sel->add($s); push @all, $s; $sum{$s} = Digest::SHA->new(256); $left{$s} = $rounds; ask($s, $rounds);
		}
		while ($sel->count) {
			for my $s ($sel->can_read(60)) {
				my $got = sysread($s, my $data, $due{$s}) // die "read: $!";
				die "closed early" if !$got;
				$sum{$s}->add($data);
				next if $due{$s} -= $got;
				if (--$left{$s}) { ask($s, $left{$s}) } else { $s->shutdown(1); sysread($s, $data, 1) and die "more than was asked for"; $sel->remove($s) }
			}
		}
		print $sum{$_}->hexdigest, "\n" for @all;
	PL
}

app_server() {
	ns_start server b "$1" perl "$WORK/server.pl" "$IP_B" $PORT
	wait_listen b $PORT
}

app_client() { ns_run a "$1" perl "$WORK/client.pl" "$IP_B" $PORT $CONNECTIONS "$(rounds)"; }

app_check() {
	local sum
	sum=$(perl -MDigest::SHA -e 'my $s = Digest::SHA->new(256);
		for (my $i = $ARGV[0]; $i > 0; $i--) { $s->add(pack("N", $i) x (1 + $i * 37 % 900)) } print $s->hexdigest' "$(rounds)")
	check_eq "$RUN: sums" "$(uniq -c "$WORK/client.out" | xargs)" "$CONNECTIONS $sum"
	APP_BYTES=$(($(rounds) * CONNECTIONS * 1800))
}

app_label() { echo "select, 6 connections"; }
app_half() { echo 3000000; }

app_main "$@"
