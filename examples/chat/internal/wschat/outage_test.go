package wschat_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crosscast/crosscast/internal/programtest"
	"github.com/crosscast/crosscast/internal/redistest"
)

// start starts a program of the chat.
func start(t *testing.T, path string, env ...string) *programtest.Program {
	return programtest.Start(t, exec.Command(path), env...)
}

// build builds a program of the chat.
func build(t *testing.T, name string) string { return programtest.Build(t, "../../"+name) }

// cpu is the time that programs have computed for.
func cpu(t *testing.T, programs ...*programtest.Program) (sum time.Duration) {
	t.Helper()
	for _, p := range programs {
		sum += cpuOf(t, p.Pid())
	}
	return sum
}

func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(strings.NewReader(string(b[strings.LastIndexByte(string(b), ')'):])))
	sc.Split(bufio.ScanWords)
	var ticks int
	for i := 0; sc.Scan(); i++ {
		if i == 12 || i == 13 { // utime and stime, of 1/100 s each
			n, err := strconv.Atoi(sc.Text())
			if err != nil {
				t.Fatal(err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// TestOutage: two server processes on a real Redis, which is killed and comes back while clients chat.
func TestOutage(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	path := build(t, "server")
	env := func(id string) []string {
		return []string{"PORT=0", "NODE_ID=" + id, "REDIS_URL=redis://" + redis.Addr()}
	}
	s1, s2 := start(t, path, env("server-1")...), start(t, path, env("server-2")...)
	url1 := s1.Printed(`(?m)^\[server-1\] listening on (http://localhost:\d+)$`)
	url2 := s2.Printed(`(?m)^\[server-2\] listening on (http://localhost:\d+)$`)
	s1.Printed(`(?m)^\[server-1\] Redis: redis://` + redis.Addr() + `$`)

	a, a2, b := startClient(t, "A", url1), startClient(t, "A2", url1), startClient(t, "B", url2)
	for _, m := range []*member{a, a2, b} {
		wait(t, m.joined, "joined")
	}
	hears := func(text string, members ...*member) {
		t.Helper()
		for _, m := range members {
			m.expect(t, text, "server-1")
		}
	}
	a.say(t, "before")
	hears("before", a, a2, b)

	redis.Kill()
	const (
		down = `(?m)^\[server-\d\] crosscast: the subscribing half of the link is down.*$`
		live = `(?m)^\[server-\d\] crosscast: the subscribing half of the link is live `
		back = `(?s)half of the link is down.*the subscribing half of the link is live `
	)
	for _, s := range []*programtest.Program{s1, s2} {
		s.Printed(down)
	}
	begin := time.Now()
	a.say(t, "during")
	hears("during", a, a2)
	local := time.Since(begin)
	begin = time.Now()
	if err := b.Join(t.Context(), "room2"); err != nil {
		t.Fatal(err)
	}
	if j := wait(t, b.joined, "joined"); j.RoomID != "room2" {
		t.Errorf("joined %+v", j)
	}
	t.Logf("during the outage: local delivery in %v, join in %v", local, time.Since(begin))
	if took := time.Since(begin); local > patience/8 || took > patience/8 { // Redis is still down, so neither waits for it
		t.Errorf("during the outage: local delivery took %v, a join %v", local, took)
	}
	if runtime.GOOS == "linux" {
		begin, used := time.Now(), cpu(t, s1, s2)
		time.Sleep(3 * time.Second) // lasts: an outage of some length
		used = cpu(t, s1, s2) - used
		t.Logf("two servers used %v of CPU in %v without Redis", used, time.Since(begin))
		if used > time.Since(begin)/10 {
			t.Errorf("two servers used %v of CPU in %v without Redis", used, time.Since(begin))
		}
	}

	redis.Restart()
	begin = time.Now()
	for _, s := range []*programtest.Program{s1, s2} {
		s.Printed(back)
	}
	for _, m := range []*member{a, a2, b} {
		g := wait(t, m.gaps, "the gap")
		t.Logf("%v after the restart %s was told %+v", time.Since(begin), m.Name, g)
		if g.Since.IsZero() || g.Away {
			t.Errorf("%s was told %+v", m.Name, g)
		}
	}
	a.say(t, "after")
	hears("after", a, a2)
	for got := ""; got != "after"; { // what was said during a short outage may come first
		got = wait(t, b.messages, "a message after the outage").Text
	}
	// The room that was joined during the outage is heard, too.
	if status, answer := post(t, url1+"/emit/room2", "", ""); status != 200 {
		t.Errorf("%d %s", status, answer)
	}
	if m := b.expect(t, "hello from HTTP", "server-1"); m.RoomID != "room2" {
		t.Errorf("%+v", m)
	}
	for _, s := range []*programtest.Program{s1, s2} {
		for pattern, times := range map[string]int{down: 1, live: 2} { // live at the start, too
			if lines := regexp.MustCompile(pattern).FindAllString(s.Out.String(), -1); len(lines) != times {
				t.Errorf("printed %d times: %s\n%s", len(lines), pattern, s.Out)
			}
		}
	}
	s1.Stop(os.Interrupt)
	s2.Stop(os.Interrupt)
}

// TestPrograms: the client program on the server program.
func TestPrograms(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	s := start(t, build(t, "server"), "PORT=0", "REDIS_URL=redis://"+redis.Addr())
	url := s.Printed(`(?m)^\[node-0\] listening on (http://localhost:\d+)$`)
	c := start(t, build(t, "client"), "NAME=A", "SERVER_URL="+url)
	c.Printed(`(?m)^\[A\] connected to ` + url + ` as A$`)
	c.Printed(`(?m)^\[A\] joined room=room1 \(handled by node-0\)$`)
	c.Printed(`(?m)^\[A\] got message: hi from A \(from A on node-0\)$`)
	s.Stop(syscall.SIGTERM)
	c.Printed(`(?m)^\[A\] disconnected$`)
	c.Printed(`(?m)^\[A\] cannot connect, trying again in \d+ms: `)
	c.Stop(os.Interrupt)
}

// TestServerWithoutRedis: the program ends with an error that names the address.
func TestServerWithoutRedis(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	redis.Kill()
	s := start(t, build(t, "server"), "PORT=0", "REDIS_URL=redis://:secret@"+redis.Addr())
	err := s.Wait()
	if err == nil || !strings.Contains(s.Out.String(), redis.Addr()) || strings.Contains(s.Out.String(), "secret") {
		t.Errorf("%v: %s", err, s.Out)
	}
}
