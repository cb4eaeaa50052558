// Parses packets with Socket.IO's own parser: a list of texts on standard input, and one of what is in them on standard
// output, "" for what it refuses.
const { Decoder } = require("socket.io-parser");

let input = "";
process.stdin.setEncoding("utf8");
process.stdin.on("data", (chunk) => (input += chunk));
process.stdin.on("end", () => {
  const results = JSON.parse(input).map((text) => {
    let p;
    try {
      p = new Decoder().decodeString(text);
    } catch {
      return "";
    }
    const type = p.type >= 5 ? p.type - 3 : p.type;
    if (type === 2 && p.data && typeof p.data[0] === "number") {
      p.data[0] = String(p.data[0]);
    }
    const data = p.data === undefined ? "" : JSON.stringify(sorted(p.data));
    return `${type} ${p.attachments ?? 0} ${p.nsp} ${p.id ?? ""} ${data}`;
  });
  process.stdout.write(JSON.stringify(results));
});

// sorted returns v with the keys of objects in order.
function sorted(v) {
  if (Array.isArray(v)) {
    return v.map(sorted);
  }
  if (v && typeof v === "object") {
    return Object.fromEntries(Object.keys(v).sort().map((k) => [k, sorted(v[k])]));
  }
  return v;
}
