<?php
// Signs a message for the ingress, and prints it:
//
//   export CROSSCAST_INGRESS_KEY=…   # 32 bytes in base64, one of Seal.IngressKeys
//   php sign.php cc:in '{"rooms":["room1"],"event":"said","data":"hi"}' | redis-cli -x PUBLISH cc:in
function sign(string $key, string $topic, object $message): string
{
    $message->time = time();
    $message->id = bin2hex(random_bytes(16));
    $text = json_encode($message, JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION);
    return hash_hmac('sha256', "$topic\n$text", $key) . ' ' . $text;
}

echo sign(base64_decode(getenv('CROSSCAST_INGRESS_KEY')), $argv[1], json_decode($argv[2], false, 512, JSON_THROW_ON_ERROR));
