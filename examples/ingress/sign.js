// Signs a message for the ingress, and prints it:
//
//   export CROSSCAST_INGRESS_KEY=…   # 32 bytes in base64, one of Seal.IngressKeys
//   node sign.js cc:in '{"rooms":["room1"],"event":"said","data":"hi"}' | redis-cli -x PUBLISH cc:in
const { createHmac, randomBytes } = require('node:crypto')

function sign(key, topic, message) {
  const text = JSON.stringify({ ...message, time: Math.floor(Date.now() / 1000), id: randomBytes(16).toString('hex') })
  return createHmac('sha256', key).update(topic + '\n' + text).digest('hex') + ' ' + text
}

const key = Buffer.from(process.env.CROSSCAST_INGRESS_KEY, 'base64')
process.stdout.write(sign(key, process.argv[2], JSON.parse(process.argv[3])))
