package interop

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/ws"
)

// TestClientTypes: the compiler of TypeScript accepts the types of client.js, uses that are right, and no others.
func TestClientTypes(t *testing.T) {
	needNode(t)
	dir := t.TempDir()
	for _, name := range []string{"client.js", "client.mjs", "client.d.ts", "client.d.mts"} {
		w := httptest.NewRecorder()
		ws.ClientJS(w, httptest.NewRequest("GET", "/"+name, nil))
		write(t, filepath.Join(dir, name), w.Body.String())
	}
	const use = `
const client: Client = new Client("/ws", {
  events: {said: (text: string) => text.length},
  awayBytes: 1 << 20, writeLimit: 1 << 16, minBackoff: 10, WebSocket, stream: true, protocols: [],
  giveUp: (client, reason, code) => code === 4001 && reason.length > 0 && client.rooms.length === 0,
  onconnect: async client => { await client.request("login", {token: "x"}); },
  ongap: (client, gap) => { const span: number = (gap.until ?? new Date()).getTime() - gap.since.getTime(); void span; },
  onjoinerror: (client, room, error) => { if (error.code === "remote") void client.join(room.trim()); },
  onstate: (client, state) => { if (state === "gave up") client.close(); },
});
async function use(): Promise<string> {
  await client.join("room1", {timeout: 5000});
  await client.leave("room1");
  client.on("said", (text: string) => text).emit("say", "hello");
  const stop = client.presence<{name: string}>("room1", p => { void p.members?.get(p.joined[0] ?? "")?.name.length; });
  stop();
  const answer = await client.request<{text: string}>("ask");
  try { client.emit("x"); } catch (e) { if (e instanceof ClientError) e.code satisfies string; if (e instanceof ClientError && e.code === "too large") return e.message; }
  // @ts-expect-error
  client.join(7);
  // @ts-expect-error
  client.rooms = [];
  // @ts-expect-error
  new Client("/ws", {onconect: () => {}});
  // @ts-expect-error
  if (client.state === "gone") return "";
  // @ts-expect-error
  if (new ClientError("lost").code) return "";
  return answer.text;
}
void use;
`
	write(t, filepath.Join(dir, "module.mts"), `import { Client, ClientError, type Options, type State } from "./client.mjs";
const state: State = "waiting", options: Options = {};
void state, options;`+use)
	write(t, filepath.Join(dir, "script.ts"), `import "./client.js";
const { Client, ClientError } = crosscast;
type Client = crosscast.Client;`+use)
	cmd := exec.CommandContext(t.Context(), "node", "node_modules/typescript/bin/tsc", "--noEmit", "--strict",
		"--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom", "--skipDefaultLibCheck",
		filepath.Join(dir, "module.mts"), filepath.Join(dir, "script.ts"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, strings.ReplaceAll(string(out), dir, ""))
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
