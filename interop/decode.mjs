// What the decoders of Node.js servers make of bytes: notepack.io reads broadcasts and requests of the Redis adapter,
// @msgpack/msgpack those of others.
import { decode as decodeMsgpack } from "@msgpack/msgpack";
import notepack from "notepack.io";
import { serve } from "./control.mjs";

// attempt returns the value, or what was thrown.
function attempt(decode, bytes) {
  try {
    return { value: decode(bytes) };
  } catch (err) {
    return { error: String(err) };
  }
}

// read returns what a server reads from a message: those that begin with a brace are JSON.
function read(bytes, decode) {
  return bytes[0] === 0x7b ? JSON.parse(bytes.toString()) : decode(bytes);
}

serve({
  decode: ({ messages }) =>
    messages.map((bytes) => ({
      notepack: attempt((b) => read(b, notepack.decode), bytes),
      msgpack: attempt((b) => read(b, decodeMsgpack), bytes),
    })),
});
