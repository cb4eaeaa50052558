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

serve({
  decode: ({ messages }) =>
    messages.map((bytes) => ({ notepack: attempt(notepack.decode, bytes), msgpack: attempt(decodeMsgpack, bytes) })),
  // encode is for the other direction.
  encode: ({ values }) => values.map((value) => notepack.encode(value)),
});
