#!/usr/bin/env bash
# Takes the pictures of the documentation, with the real pages in Chromium.
set -euo pipefail
cd "$(dirname "$0")"
made=$(mktemp -d)
SCREENSHOTS=$made go test -C ../browsertest -count 1 -run 'TestClusterPage|TestChatStage' .
for scheme in light dark; do
	mv "$made/TestClusterPage-cluster-$scheme.png" "page-$scheme.png"
done
mv "$made/chat.gif" .
rm -r "$made"
