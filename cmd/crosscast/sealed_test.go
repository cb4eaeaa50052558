package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/crosscasttest"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/redisadapter"
	"github.com/crosscast/crosscast/wire"
)

// TestSealed: with the keys, from the environment or a file, the commands do on a sealed bus what they do elsewhere.
// Without them they say what is missing.
func TestSealed(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	t.Setenv("REDIS_URL", "redis://"+s.Addr())
	text := base64.StdEncoding.EncodeToString(sealKey)
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seal := wire.Seal{Keys: [][]byte{sealKey}, Require: true}
	n := startAdapter(t, "sealed", redisadapter.Dial("redis://"+s.Addr(), redisadapter.Options{Seal: seal}))
	client := crosscasttest.Connect(t.Context(), t, n.Namespace, crosscast.ConnectOptions{User: "ann", Rooms: []string{"lobby"}})
	expect := func(keys string, code int, want string, args ...string) {
		t.Helper()
		t.Setenv("CROSSCAST_KEYS", keys)
		var out bytes.Buffer
		if got := run(args, &out, &out); got != code || !strings.Contains(out.String(), want) {
			t.Errorf("crosscast %s: exit code %d, and not %d:\n%s", strings.Join(args, " "), got, code, out.String())
		}
		if strings.Contains(out.String(), text[:20]) {
			t.Errorf("crosscast %s shows the key:\n%s", strings.Join(args, " "), out.String())
		}
	}
	other := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 32))
	expect(text, 0, "sealed", "nodes")
	expect("", 0, "ann", "users", "--key-file", file)
	expect("", exitNobody, "if they have a seal, this command needs its keys", "doctor", "--timeout", "3s")
	expect(other, exitNobody, "do they have the keys of this command", "nodes", "--timeout", "3s")
	expect(text[:20], exitUsage, "key 1 of 20 characters is not 32 bytes in base64", "nodes")
	expect("", exitUsage, "no such file", "nodes", "--key-file", file+"x")
	expect(text, 0, `emitted "said" to 1 node`, "emit", "--room", "lobby", "said", `"hello"`)
	if m := client.Event(t.Context(), "said"); string(m.Payload.Data) != `"hello"` {
		t.Errorf("the client got %s", m.Payload.Data)
	}

	tail := func(keys string, emitter crosscast.Adapter, args ...string) string {
		t.Setenv("CROSSCAST_KEYS", keys)
		var out bytes.Buffer
		done := make(chan int, 1)
		go func() { done <- run(append([]string{"tail", "lobby"}, args...), &out, &out) }()
		rdb := s.Client()
		for begin := time.Now(); rdb.PubSubNumPat(t.Context()).Val() == 0; time.Sleep(10 * time.Millisecond) { // poll
			if time.Since(begin) > redistest.Patience {
				t.Fatal("tail does not listen")
			}
		}
		e := startAdapter(t, "emitter", emitter)
		if err := e.To("lobby").Emit(t.Context(), "said", "tailed"); err != nil {
			t.Fatal(err)
		}
		<-done
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
		return out.String()
	}
	one := func() crosscast.Adapter {
		return redisadapter.Dial("redis://"+s.Addr(), redisadapter.Options{Seal: seal})
	}
	if got := tail(text, one(), "--count", "1"); !strings.Contains(got, `lobby  said "tailed"`) {
		t.Errorf("tail shows %q", got)
	}
	const refused = "messages are not shown, because of the seal"
	if got := tail("", one(), "--for", "1s"); strings.Count(got, refused) != 1 || strings.Contains(got, "tailed") {
		t.Errorf("tail without the keys shows %q", got)
	}
	shard := func() crosscast.Adapter {
		return redisadapter.NewShards([]redisadapter.Shard{{Name: "a", Client: s.Client()}}, redisadapter.Options{Prefix: "shards", Seal: seal})
	}
	peer := startAdapter(t, "shards", shard())
	crosscasttest.Connect(t.Context(), t, peer.Namespace, crosscast.ConnectOptions{Rooms: []string{"lobby"}})
	if got := tail(text, shard(), "--prefix", "shards", "--shard", "a", "--count", "1"); !strings.Contains(got, `lobby  said "tailed"`) {
		t.Errorf("tail of a shard shows %q", got)
	}
	for shards, want := range map[string]string{"": "say its name with --shard", "b": `not their shard "b"`} {
		got := tail(text, shard(), "--prefix", "shards", "--shard", shards, "--for", "1s")
		if strings.Count(got, refused) != 1 || !strings.Contains(got, want) {
			t.Errorf("tail of the shard %q shows %q", shards, got)
		}
	}

	startAdapter(t, "alien", redisadapter.Dial("redis://"+s.Addr(), redisadapter.Options{}))
	for begin := time.Now(); len(n.Stats().Adapter.Unopened) == 0; time.Sleep(10 * time.Millisecond) { // poll
		if time.Since(begin) > redistest.Patience {
			t.Fatal("the node does not name the one without a key")
		}
	}
	expect(text, exitFault, "neither side hears the other (docs/security.md)", "doctor")
}
