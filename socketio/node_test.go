package socketio

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
)

// node returns a command that runs a script of testdata with the packages of Socket.IO, of which the tests of the
// module interop have a copy.
func node(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	skip := t.Skip
	if os.Getenv("CI") != "" {
		skip = t.Fatal
	}
	path, err := exec.LookPath("node")
	if err != nil {
		skip("SKIPPED: no node on the PATH")
	}
	modules, err := filepath.Abs("../interop/node_modules")
	if err == nil {
		_, err = os.Stat(filepath.Join(modules, "socket.io-client"))
	}
	if err != nil {
		skip("SKIPPED: no Socket.IO, which `npm ci --prefix interop` brings: ", err)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{filepath.Join("testdata", script)}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return cmd
}

// TestPacketsAsNode: packets are parsed as by Socket.IO's own parser.
func TestPacketsAsNode(t *testing.T) {
	cmd := node(t, "parse.cjs")
	seeds := []string{
		`0{"a":1}`, `0`, `0/chat,`, `0/chat,{"a":{"b":[]}}`, `1`, `1/chat,`, `2["a",1,{"b":[2,"],["]}]`,
		`2/a,12["a"]`, `312[]`,
		`3/a,1[{"x":"\u00e9"}]`, `51-["a",{"_placeholder":true,"num":0}]`, `62-/a,3[1]`, `2[-0.5,"\u00e9"]`, `2["\"\\",","]`,
		"2[ \"a\" ,\t1 ]", `4{}`, `2[]`, `29007199254740992["a"]`, `2["disconnect"]`, `2[1e21]`, `510-["a"]`, `511-["a"]`,
		`2["",""]`, `2/a["b"]`, `2["a"]1`, `25["a",null,true,1.5e300]`,
	}
	const alphabet = `0123456789-/,[]{}"\ntrue.eE+:a ` + "\t\u00e9"
	r := rand.New(rand.NewPCG(1, 2))
	var packets []string
	for i := range 20_000 {
		p := []rune(seeds[i%len(seeds)])
		for range i / len(seeds) % 4 {
			switch c := []rune(alphabet)[r.IntN(len([]rune(alphabet)))]; {
			case len(p) == 0 || r.IntN(3) == 0:
				at := r.IntN(len(p) + 1)
				p = append(p[:at:at], append([]rune{c}, p[at:]...)...)
			case r.IntN(2) == 0:
				p[r.IntN(len(p))] = c
			default:
				at := r.IntN(len(p))
				p = append(p[:at:at], p[at+1:]...)
			}
		}
		packets = append(packets, string(p))
	}
	input, err := json.Marshal(packets)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var theirs []string // "": refused
	if err := json.Unmarshal(output, &theirs); err != nil || len(theirs) != len(packets) {
		t.Fatalf("%d results, %v", len(theirs), err)
	}
	taken, stricter := 0, make(map[error]int)
	for i, text := range packets {
		p, err := parsePacket([]byte(text), 10)
		if err != nil {
			if theirs[i] != "" {
				stricter[err]++
			}
			continue
		}
		taken++
		if ours := canonical(&p); ours != "" && ours != theirs[i] {
			t.Errorf("%s: got %s, Node.js %s", text, ours, theirs[i])
		}
	}
	t.Logf("%d of %d packets taken, Node.js takes more: %v", taken, len(packets), stricter)
	if taken < len(packets)/4 {
		t.Errorf("only %d of %d packets taken", taken, len(packets))
	}
}

// canonical is a packet as parse.cjs prints it. It is "" if the packet has a number that is infinite in JavaScript.
func canonical(p *packet) string {
	id, data := "", ""
	if p.hasID {
		id = fmt.Sprint(p.id)
	}
	switch p.typ {
	case connect:
		data = string(p.auth)
	case emission, ack:
		values := p.values
		if p.typ == emission {
			name, _ := json.Marshal(p.event)
			values = append([]json.RawMessage{name}, values...)
		}
		var list []string
		for _, v := range values {
			list = append(list, string(v))
		}
		data = "[" + strings.Join(list, ",") + "]"
	}
	if data != "" {
		var v any
		if err := json.Unmarshal([]byte(data), &v); err != nil {
			return ""
		}
		b, _ := json.Marshal(v)
		data = string(b)
	}
	return fmt.Sprintf("%c %d %s %s %s", p.typ, p.attachments, p.namespace, id, data)
}

// TestRealClient: an unmodified socket.io-client finds the same behaviour as on Node.js. client.cjs has its checks.
func TestRealClient(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := crosscast.Start(ctx, crosscast.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close(ctx)
	echo := Answered(func(ctx context.Context, s *crosscast.Socket, args Args) (any, error) {
		return args.Payload(), s.Emit(ctx, "echo", args.Payload())
	})
	s, err := New(n, Options{
		PingInterval: 200 * time.Millisecond,
		Namespaces: map[string]*Namespace{"/chat": {Events: Events{"echo": echo}}, "/": {
			Authenticate: func(_ context.Context, h *Handshake) (Client, error) {
				var auth struct{ Token string }
				if err := json.Unmarshal(h.Auth, &auth); err != nil || auth.Token != "good" {
					return Client{}, &ConnectError{Message: "not authorized", Data: map[string]int{"code": 7}}
				}
				return Client{User: "u1"}, nil
			},
			Events: Events{
				"echo": echo,
				"whoami": Answered(func(_ context.Context, s *crosscast.Socket, _ Args) (any, error) {
					return s.ID(), nil
				}),
				"fail": func(context.Context, *crosscast.Socket, Args) error { return Errorf("not today") },
				"join": Typed(func(ctx context.Context, s *crosscast.Socket, room string) error {
					return s.Join(ctx, room)
				}),
				"say": func(ctx context.Context, s *crosscast.Socket, args Args) error {
					var room, text string
					if err := args.Decode(0, &room); err != nil {
						return err
					}
					if err := args.Decode(1, &text); err != nil {
						return err
					}
					return n.To(room).Emit(ctx, "said", Values(text, map[string]any{"b": []byte{1, 2}}))
				},
				"ask me": Answered(func(ctx context.Context, s *crosscast.Socket, _ Args) (any, error) {
					answers := n.ToSocket(s.ID()).EmitAck(ctx, "question", Values("a", "b"))
					for r := range answers.All() {
						args, err := ArgsOf(r.Payload)
						if err != nil {
							return nil, err
						}
						var first, second any
						err = args.Decode(0, &first)
						second, _ = args.JSON(1)
						return []any{first, second}, err
					}
					return nil, answers.Err()
				}),
				"kick":  func(_ context.Context, s *crosscast.Socket, _ Args) error { s.Close("kicked"); return nil },
				"force": func(_ context.Context, s *crosscast.Socket, _ Args) error { s.Close(ReasonForced); return nil },
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	defer server.Close()
	cmd := node(t, "client.cjs", server.URL)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	asked := false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if asked = lines.Text() == "close"; asked {
			go n.Close(ctx)
		}
	}
	if err := cmd.Wait(); err != nil || !asked {
		t.Fatalf("%v, came to the end: %v, %+v\n%s", err, asked, s.Stats(), stderr.String())
	}
	if st := s.Stats(); st.Malformed > 0 || st.Refused["transport"] != 2 {
		t.Errorf("%+v", st)
	}
}
