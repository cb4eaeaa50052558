#!/bin/sh
# Signs a message for the ingress, and prints it:
#
#   export CROSSCAST_INGRESS_KEY=…   # 32 bytes in base64, one of Seal.IngressKeys
#   sh sign.sh cc:in '{"rooms":["room1"],"event":"said","data":"hi"}' | redis-cli -x PUBLISH cc:in
#
# Perl comes with almost every system. openssl would show the key in its command line.
set -eu
topic=$1
message="{\"time\":$(date +%s),\"id\":\"$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')\",${2#\{}"
signature=$(printf '%s\n%s' "$topic" "$message" | perl -MMIME::Base64 -MDigest::SHA=hmac_sha256_hex -0777 -ne \
	'print hmac_sha256_hex($_, decode_base64($ENV{CROSSCAST_INGRESS_KEY}))')
printf '%s %s' "$signature" "$message"
