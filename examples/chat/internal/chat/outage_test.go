package chat_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crosscast/crosscast/internal/redistest"
)

// program is a running program of this example.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	out *output
}

// build builds the program in a directory beside internal.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", path, "../../"+name).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

func start(t *testing.T, path string, env ...string) *program {
	t.Helper()
	p := &program{t, exec.Command(path), &output{}}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	return p
}

// printed waits until the program has printed a match of pattern, and returns the first group.
func (p *program) printed(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(time.Millisecond) {
		if m := re.FindStringSubmatch(p.out.String()); m != nil {
			return m[len(m)-1]
		}
	}
	p.t.Fatalf("%s did not print %s:\n%s", filepath.Base(p.cmd.Path), pattern, p.out)
	return ""
}

// interrupt sends SIGINT, and expects the program to end well.
func (p *program) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Error(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v\n%s", filepath.Base(p.cmd.Path), err, p.out)
	}
}

// cpu is the time that the process has computed for.
func (p *program) cpu() time.Duration {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	sc := bufio.NewScanner(strings.NewReader(string(b[strings.LastIndexByte(string(b), ')'):])))
	sc.Split(bufio.ScanWords)
	var ticks int
	for i := 0; sc.Scan(); i++ {
		if i == 12 || i == 13 { // utime and stime, of 1/100 s each
			n, err := strconv.Atoi(sc.Text())
			if err != nil {
				p.t.Fatal(err)
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
	url1 := s1.printed(`(?m)^\[server-1\] listening on (http://localhost:\d+)$`)
	url2 := s2.printed(`(?m)^\[server-2\] listening on (http://localhost:\d+)$`)
	s1.printed(`(?m)^\[server-1\] Redis: redis://` + redis.Addr() + `$`)

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
		down = `(?m)^\[server-\d\] crosscast: the link to the bus is down.*$`
		back = `(?m)^\[server-\d\] crosscast: the link to the bus is back$`
	)
	for _, s := range []*program{s1, s2} {
		s.printed(down)
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
	if took := time.Since(begin); local > time.Second || took > time.Second {
		t.Errorf("during the outage: local delivery took %v, a join %v", local, took)
	}
	if runtime.GOOS == "linux" {
		begin, used := time.Now(), s1.cpu()+s2.cpu()
		time.Sleep(3 * time.Second) // an outage of some length
		used = s1.cpu() + s2.cpu() - used
		t.Logf("two servers used %v of CPU in %v without Redis", used, time.Since(begin))
		if used > time.Since(begin)/10 {
			t.Errorf("two servers used %v of CPU in %v without Redis", used, time.Since(begin))
		}
	}

	redis.Restart()
	begin = time.Now()
	for _, s := range []*program{s1, s2} {
		s.printed(back)
	}
	for _, m := range []*member{a, a2, b} {
		g := wait(t, m.gaps, "the gap")
		t.Logf("%v after the restart %s was told %+v", time.Since(begin), m.Name, g)
		if g.Rooms != nil || g.Reason != "link lost" {
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
	for _, s := range []*program{s1, s2} {
		for _, pattern := range []string{down, back} {
			if lines := regexp.MustCompile(pattern).FindAllString(s.out.String(), -1); len(lines) != 1 {
				t.Errorf("printed %d times: %s\n%s", len(lines), pattern, s.out)
			}
		}
	}
	s1.interrupt()
	s2.interrupt()
}

// TestPrograms: the client program on the server program.
func TestPrograms(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	s := start(t, build(t, "server"), "PORT=0", "REDIS_URL=redis://"+redis.Addr())
	url := s.printed(`(?m)^\[node-0\] listening on (http://localhost:\d+)$`)
	c := start(t, build(t, "client"), "NAME=A", "SERVER_URL="+url)
	id := c.printed(`(?m)^\[A\] connected to ` + url + ` as (\S{20})$`)
	c.printed(`(?m)^\[A\] joined room=room1 \(handled by node-0\)$`)
	c.printed(`(?m)^\[A\] got message: hi from A \(from ` + id + ` on node-0\)$`)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.printed(`(?m)^\[A\] disconnected$`)
	c.printed(`(?m)^\[A\] cannot connect, trying again in \d+ms: `)
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("server: %v\n%s", err, s.out)
	}
	c.interrupt()
}

// TestServerWithoutRedis: the program ends with an error that names the address.
func TestServerWithoutRedis(t *testing.T) {
	redis := redistest.Start(t, redistest.Config{})
	redis.Kill()
	s := start(t, build(t, "server"), "PORT=0", "REDIS_URL=redis://:secret@"+redis.Addr())
	err := s.cmd.Wait()
	if err == nil || !strings.Contains(s.out.String(), redis.Addr()) || strings.Contains(s.out.String(), "secret") {
		t.Errorf("%v: %s", err, s.out)
	}
}
