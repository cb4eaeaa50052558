// A process without a server that emits to the cluster: @socket.io/redis-emitter.
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";
import { serve } from "./control.mjs";
import { emissions } from "./emission.mjs";

let client;
let emitter;

serve({
  async open({ url, key }) {
    client = createClient({ url });
    client.on("error", () => {});
    await client.connect();
    emitter = new Emitter(client, { key });
  },
  close: () => client.close(),
  ...emissions((target) => (target.nsp === "/" ? emitter : emitter.of(target.nsp))),
});
