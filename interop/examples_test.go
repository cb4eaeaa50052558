package interop

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
)

// TestVendoredClient: what examples/socketio/server has of socket.io-client is what the package has.
func TestVendoredClient(t *testing.T) {
	needNode(t)
	for file, original := range map[string]string{
		"socket.io.min.js":  "dist/socket.io.min.js",
		"socket.io.LICENSE": "LICENSE",
	} {
		got, err := os.ReadFile("../examples/socketio/server/page/" + file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile("node_modules/socket.io-client/" + original)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not the package's: go generate ./examples/socketio/server", file)
		}
	}
}

// TestDocumentation: the servers and clients on Node.js that docs/socketio.md shows, as they stand there, beside examples/socketio.
func TestDocumentation(t *testing.T) {
	needNode(t)
	page, err := os.ReadFile("../docs/socketio.md")
	if err != nil {
		t.Fatal(err)
	}
	redisURL := "REDIS_URL=redis://" + redistest.Start(t, redistest.Config{}).Addr()
	// script runs what the page has under a file's name, in the directory where Node.js finds the packages.
	script := func(file, env string) *programtest.Program {
		t.Helper()
		block := regexp.MustCompile("(?s)```js\n(// " + regexp.QuoteMeta(file) + ":.*?)```\n").FindSubmatch(page)
		if block == nil {
			t.Fatalf("the page has no %s", file)
		}
		p := programtest.Start(t, exec.Command("node", "--input-type=module", "--eval", string(block[1])), redisURL, env)
		t.Cleanup(p.Kill)
		return p
	}
	goServer := programtest.Start(t, exec.Command(programtest.Build(t, "../examples/socketio/server")), redisURL, "PORT=0")
	onGo := goServer.Printed(`listening on (http://localhost:\d+)\n`)
	_, port, err := net.SplitHostPort(redistest.ClosedPort())
	if err != nil {
		t.Fatal(err)
	}
	onNode := "http://localhost:" + port
	script("server.mjs", "PORT="+port)

	// The first client on each server hears the second one on the other.
	clients := make(map[string]*programtest.Program)
	for _, url := range []string{onGo, onNode} {
		clients[url] = script("client.mjs", "SERVER_URL="+url)
		clients[url].Printed(`(?s)roomMessage \{.*text: 'hello to all from a client of ` + url + `'`)
	}
	clients[onGo].Printed(`(?s)fromNode: 'Node.js'.*text: 'hello to all from a client of ` + onNode + `',\s+at: '\d{4}-`)
	script("client.mjs", "SERVER_URL="+onGo)
	clients[onNode].Printed(`(?s)fromNode: 'node-0'.*text: 'hello to all from a client of ` + onGo + `',\s+at: '\d{4}-`)

	emit := programtest.Start(t, exec.Command(programtest.Build(t, "../examples/socketio/emit"),
		"-room", "room1", "-ask", "-event", "roomMessage", `{"text":"hi"}`, "1", `"two"`), redisURL)
	if err := emit.Wait(); err != nil || !strings.HasPrefix(emit.Out.String(), "3 sockets\nemitted roomMessage") {
		t.Errorf("emit: %v, printed %q", err, emit.Out)
	}
	for _, c := range clients {
		c.Printed(`roomMessage \{ text: 'hi' \} 1 two\n`)
	}
}
