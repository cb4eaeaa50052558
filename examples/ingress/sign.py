# Signs a message for the ingress, and prints it:
#
#   export CROSSCAST_INGRESS_KEY=…   # 32 bytes in base64, one of Seal.IngressKeys
#   python3 sign.py cc:in '{"rooms":["room1"],"event":"said","data":"hi"}' | redis-cli -x PUBLISH cc:in
import base64, hashlib, hmac, json, os, secrets, sys, time


def sign(key, topic, message):
    text = json.dumps({**message, "time": int(time.time()), "id": secrets.token_hex(16)}).encode()
    return hmac.new(key, topic.encode() + b"\n" + text, hashlib.sha256).hexdigest().encode() + b" " + text


if __name__ == "__main__":
    key = base64.b64decode(os.environ["CROSSCAST_INGRESS_KEY"])
    sys.stdout.buffer.write(sign(key, sys.argv[1], json.loads(sys.argv[2])))
