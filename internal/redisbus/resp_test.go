package redisbus_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/redisbus"
	"github.com/crosscast/crosscast/wire"
)

// TestReplies: each form of a reply that RESP2 and RESP3 have, of plain and of sharded Pub/Sub.
func TestReplies(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<20)
	for _, c := range []struct {
		text string
		want wire.Event
	}{
		{"*3\r\n$7\r\nmessage\r\n$4\r\ncc:a\r\n$5\r\n1\r\n23\r\n", wire.Event{Kind: wire.Message, Topic: "cc:a", Data: []byte("1\r\n23")}},
		{">3\r\n$8\r\nsmessage\r\n$4\r\ncc:a\r\n$0\r\n\r\n", wire.Event{Kind: wire.Message, Topic: "cc:a"}},
		{"*3\r\n$7\r\nmessage\r\n$4\r\ncc:a\r\n$16777216\r\n" + big + "\r\n", wire.Event{Kind: wire.Message, Topic: "cc:a", Data: []byte(big)}},
		{"*3\r\n$9\r\nsubscribe\r\n$4\r\ncc:a\r\n:1\r\n", wire.Event{Kind: wire.Subscribed, Topic: "cc:a"}},
		{">3\r\n+ssubscribe\r\n$4\r\ncc:a\r\n:100000\r\n", wire.Event{Kind: wire.Subscribed, Topic: "cc:a"}},
		{"*3\r\n$11\r\nunsubscribe\r\n$4\r\ncc:a\r\n:0\r\n", wire.Event{Kind: wire.Unsubscribed, Topic: "cc:a"}},
		{">3\r\n$12\r\nsunsubscribe\r\n$-1\r\n:0\r\n", wire.Event{Kind: wire.Unsubscribed}},
		{"*2\r\n$4\r\npong\r\n$2\r\nxy\r\n", wire.Event{Kind: wire.Pong, Topic: "xy"}},
		{"$2\r\nxy\r\n", wire.Event{Kind: wire.Pong, Topic: "xy"}},
		{"+PONG\r\n", wire.Event{Kind: wire.Pong, Topic: "PONG"}},
		{">3\r\n$12\r\nsunsubscribe\r\n_\r\n:0\r\n", wire.Event{Kind: wire.Unsubscribed}},
		{">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n+PONG\r\n", wire.Event{Kind: wire.Pong, Topic: "PONG"}},
		{">2\r\n$10\r\ninvalidate\r\n_\r\n>1\r\n+x\r\n+PONG\r\n", wire.Event{Kind: wire.Pong, Topic: "PONG"}},
		{">4\r\n$6\r\nMOVING\r\n:1\r\n:30\r\n$-1\r\n+PONG\r\n", wire.Event{Kind: wire.Pong, Topic: "PONG"}},
		{">9\r\n+x\r\n%1\r\n+k\r\n~2\r\n#t\r\n,1.5\r\n(123\r\n=5\r\ntxt:\n\r\n!3\r\n\r\n-\r\n" +
			"*-1\r\n-ERR x\r\n|1\r\n+a\r\n:1\r\n*0\r\n>0\r\n+PONG\r\n", wire.Event{Kind: wire.Pong, Topic: "PONG"}},
		{"|1\r\n+ttl\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", wire.Event{Kind: wire.Message, Topic: "a", Data: []byte("x")}},
	} {
		next := redisbus.Replies([]byte(c.text + c.text + c.text[:len(c.text)-1]))
		for range 2 {
			ev, err := next()
			if err != nil || ev.Kind != c.want.Kind || ev.Topic != c.want.Topic || string(ev.Data) != string(c.want.Data) {
				t.Errorf("%.60q: got %d %q, %d bytes, %v", c.text, ev.Kind, ev.Topic, len(ev.Data), err)
			}
		}
		if _, err := next(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%.60q without its last byte: %v", c.text, err)
		}
	}
}

// TestRepliesThatAreErrors: the connection works on, and the error is of go-redis's type.
func TestRepliesThatAreErrors(t *testing.T) {
	next := redisbus.Replies([]byte("-NOPERM no\r\n!9\r\nNOPERM no\r\n+OK\r\n"))
	if _, err := next(); !redis.IsPermissionError(fmt.Errorf("wrapped: %w", err)) || err.Error() != "NOPERM no" {
		t.Errorf("got %v", err)
	}
	if _, err := next(); !redis.IsPermissionError(err) {
		t.Errorf("got %v", err)
	}
	if ev, err := next(); err != nil || ev.Topic != "OK" {
		t.Errorf("got %+v, %v", ev, err)
	}
}

// TestRepliesOfNoRedis: nothing of them is taken for a reply, and no length makes memory be allocated before its bytes.
func TestRepliesOfNoRedis(t *testing.T) {
	for _, text := range []string{
		"HTTP/1.1 400 Bad Request\r\n\r\n", "\r\n", "+\n", "+OK\n", "*3\r\n:1\r\n", "*2\r\n$7\r\nmessage\r\n$1\r\nx\r\n",
		"*4\r\n$8\r\npmessage\r\n$1\r\nx\r\n$1\r\nx\r\n$1\r\nx\r\n", "*3\r\n$7\r\nmessage\r\n$-2\r\n", "*3\r\n$7\r\nmessage\r\n$x\r\n",
		"*3\r\n$7\r\nmessage\r\n$1\r\nxyz\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n+1\r\n", "*3\r\n$3\r\nmoved\r\n", ":1\r\n", "%1\r\n", "*0\r\n", "*-1\r\n", "*x\r\n", ">x\r\n", ">2\r\n+x\r\n*-2\r\n", ">2\r\n+x\r\n$x\r\n", ">2\r\n+x\r\n$1\r\nxyz",
		">2\r\n+x\r\n?\r\n", ">3\r\n+x\r\n*99999999999999999999\r\n", "|x\r\n",
		"*3\r\n$7\r\nmessage\r\n$4294967297\r\n", "+" + strings.Repeat("x", 1<<20) + "\r\n",
	} {
		if ev, err := redisbus.Replies([]byte(text))(); err == nil || errors.Is(err, io.EOF) || errors.As(err, new(redis.Error)) {
			t.Errorf("%.60q: got %+v, %v", text, ev, err)
		}
	}
	for _, text := range []string{
		"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$4294967296\r\nshort", "$4294967296\r\nshort", "!4294967296\r\nshort",
		">2\r\n$4294967296\r\nshort", ">2\r\n+x\r\n$4294967296\r\nshort", ">2147483647\r\n+x\r\n%2147483647\r\n:1\r\n",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := redisbus.Replies([]byte(text))()
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > 16<<20 {
			t.Errorf("%q: %v, and %d bytes for what never came", text, err, used)
		}
	}
}

// message is a message as a server sends it.
func message(payload string) string {
	return fmt.Sprintf("*3\r\n$7\r\nmessage\r\n$4\r\ncc:a\r\n$%d\r\n%s\r\n", len(payload), payload)
}

// TestPayloadsAllocateNothing: small ones are used where they were read, and large ones share memory. It is released after
// many small ones.
func TestPayloadsAllocateNothing(t *testing.T) {
	const n = 10
	small, large := message(strings.Repeat("s", 100<<10)), message(strings.Repeat("l", 1<<20))
	next := redisbus.Replies([]byte(large + strings.Repeat(small+large, n+1) + strings.Repeat(message("x"), 1100) + large))
	read := func(size int) {
		if ev, err := next(); err != nil || len(ev.Data) != size {
			t.Fatalf("got %d bytes, %v; want %d", len(ev.Data), err, size)
		}
	}
	read(1 << 20)
	if got := testing.AllocsPerRun(n, func() {
		read(100 << 10)
		read(1 << 20)
	}); got != 0 {
		t.Errorf("%v allocations for two payloads", got)
	}
	for range 1100 {
		read(1)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	read(1 << 20)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got < 1<<20 {
		t.Errorf("%d bytes allocated for a large payload after many small ones: the memory of the last one was kept", got)
	}
}

// TestPayloadsOfAPart: a sharded link reads on while a message is used.
func TestPayloadsOfAPart(t *testing.T) {
	one, two := strings.Repeat("1", 200<<10), strings.Repeat("2", 200<<10)
	next := redisbus.OwnReplies([]byte(message(one) + message(two)))
	first, err := next()
	second, err2 := next()
	if string(first.Data) != one || string(second.Data) != two || err != nil || err2 != nil {
		t.Errorf("got %.3q, %v and %.3q, %v", first.Data, err, second.Data, err2)
	}
}

// TestConfirmationsAllocateNothing: their topics are those of the request.
func TestConfirmationsAllocateNothing(t *testing.T) {
	const n = 1000
	topics := make([]string, n)
	var answers []byte
	for i := range topics {
		topics[i] = fmt.Sprint("crosscast:r:/:room-", i)
		answers = fmt.Appendf(answers, ">3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:%d\r\n", len(topics[i]), topics[i], i+1)
	}
	l := redisbus.Answers(topics, answers)
	i := 0
	if got := testing.AllocsPerRun(n-1, func() {
		if ev, err := l.Receive(); err != nil || ev.Kind != wire.Subscribed || ev.Topic != topics[i] {
			t.Fatalf("got %+v, %v", ev, err)
		}
		i++
	}); got != 0 {
		t.Errorf("%v allocations a confirmation", got)
	}
}

// TestAHalfWrittenCommand: nothing is written behind it, because the server would take it for the other half.
func TestAHalfWrittenCommand(t *testing.T) {
	l, written := redisbus.HalfWriting()
	if err := l.Ping("one"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	half := written()
	if err := l.Ping("two"); err == nil || written() != half {
		t.Errorf("error %v, %q was written", err, written())
	}
	if _, err := l.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Receive: %v", err)
	}
}

// TestTheCauseOfAClosedConnection: a request that meets the closed connection tells why it was closed, with the hint.
func TestTheCauseOfAClosedConnection(t *testing.T) {
	l, _ := redisbus.HalfWriting()
	if _, err := l.Receive(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	err := l.Subscribe([]string{"cc:a"})
	if !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "at the first subscribe") {
		t.Errorf("Subscribe: %v", err)
	}
}
