#!/bin/sh
# Build FerretDB:  build.sh OUTPUT
#
# FerretDB 1.24 indexes the path "_id" of its documents and asks SQLite for '$._id'. That is the same field in another
# spelling, so SQLite doesn't take the index: each update reads the whole collection, and a pipeline on it is the slower the
# longer it has run. Here its query is compiled with the index's spelling.
set -eu
output=$1
case $output in /*) ;; *) output=$PWD/$output ;; esac
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
module=github.com/FerretDB/FerretDB
cp -r "$(go mod download -json "$module@$(go list -m -f '{{.Version}}' $module)" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')" "$work/source"
chmod -R u+w "$work/source"
file=$work/source/internal/backends/sqlite/metadata/metadata.go
sed -i.orig "s|DefaultColumn + \"->'\$._id'\"|DefaultColumn + \`->\"_id\"\`|" "$file"
! cmp -s "$file" "$file.orig" || { echo "$0: the line to change is not in FerretDB's metadata.go" >&2; exit 1; }
cp go.mod go.sum "$work"
go mod edit -replace "$module=$work/source" "$work/go.mod"
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -modfile "$work/go.mod" -o "$output" .
