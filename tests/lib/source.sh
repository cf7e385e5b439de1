#!/bin/bash
# SPDX-License-Identifier: MIT
#
# source.sh - the source of an installed Debian package, for the tests in it. To be sourced after netns.sh.
#
#   source_of PACKAGE     sets SOURCE to a directory with the unpacked source of PACKAGE, of the version that is installed or, where the
#                         archive has that no longer, of the newest; skips where it cannot be downloaded
#
# It is kept in $XSHIM_BUILD/tests/source and fetched once. Installs nothing and leaves apt's own lists and settings alone: it has its own
# of both, with the source of each Debian archive that the machine takes its packages from.

SOURCE=
SOURCE_LIMIT=300	# seconds for a download

# apt-get with lists of its own, below $1
source_apt() {
	local dir=$1
	shift
	timeout $SOURCE_LIMIT apt-get -q -o "Dir::State::Lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root \
		-o APT::Update::Error-Mode=any -o Acquire::Retries=2 -o Acquire::http::Timeout=30 "$@" </dev/null
}

# The Debian archives that the machine takes packages from, as lines for their sources; none if their lists have never been fetched.
source_archives() {
	"$@" indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sed -n 's/^Debian /deb-src /p'
}

source_fetch() {
	local package=$1 version=$2 dir=$3 own
	rm -rf "$dir" && mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/got" || fail "cannot make $dir"
	own=(-o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=-)
	source_archives apt-get >"$dir/sources.list"
	[ -s "$dir/sources.list" ] || { source_apt "$dir" update && source_archives source_apt "$dir" >"$dir/sources.list"; } || return
	source_apt "$dir" "${own[@]}" update && cd "$dir/got" || return
	source_apt "$dir" "${own[@]}" --download-only source "$package=$version" ||
		source_apt "$dir" "${own[@]}" --download-only source "$package"
}

source_of() {
	local package version root=$XSHIM_BUILD/tests/source
	need apt-get dpkg-query dpkg-source
	package=$(dpkg-query -W -f '${source:Package}' "$1" 2>/dev/null)
	version=$(dpkg-query -W -f '${source:Version}' "$1" 2>/dev/null)
	[ -n "$package" ] && [ -n "$version" ] || skip "$1 is not a Debian package here"
	SOURCE=$root/$package-${version##*:}
	[ ! -d "$SOURCE" ] || return 0
	(source_fetch "$package" "$version" "$root/fetch.$package") >"$WORK/fetch.out" 2>&1 ||
		{ tail -n 3 "$WORK/fetch.out"; skip "the source of $package $version cannot be downloaded"; }
	# in one step, so that an interrupted unpacking is not taken for the whole
	dpkg-source --no-check -x "$root/fetch.$package"/got/*.dsc "$root/fetch.$package/tree" >"$WORK/fetch.out" 2>&1 &&
		mv "$root/fetch.$package/tree" "$SOURCE" || { tail -n 3 "$WORK/fetch.out" >&2; fail "cannot unpack the source of $package"; }
	rm -rf "$root/fetch.$package"
}
