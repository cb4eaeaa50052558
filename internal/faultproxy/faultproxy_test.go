package faultproxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crosscast/crosscast/internal/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo starts a server that sends back what it gets, a proxy before it, and a client of the proxy.
func echo(t *testing.T) (*faultproxy.Proxy, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	p := faultproxy.Start(t, ln.Addr().String())
	return p, dial(t, p)
}

func dial(t *testing.T, p *faultproxy.Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func roundTrip(t *testing.T, c net.Conn, n int) time.Duration {
	t.Helper()
	want := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
	start := time.Now()
	go func() { _, _ = c.Write(want) }()
	got := make([]byte, n)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("round trip of %d bytes: %v", n, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("round trip of %d bytes: they changed", n)
	}
	return time.Since(start)
}

func TestPassesOn(t *testing.T) {
	p, c := echo(t)
	roundTrip(t, c, 3<<20)
	if n := p.Conns(); n != 1 {
		t.Errorf("Conns() = %d, want 1", n)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the end of the stream: %v, want EOF", err)
	}
}

func TestDelayDoesNotLimitTheRate(t *testing.T) {
	p, c := echo(t)
	p.Set(faultproxy.Down, faultproxy.Faults{Delay: 100 * time.Millisecond})
	if d := roundTrip(t, c, 1); d < 100*time.Millisecond {
		t.Errorf("a byte took %v", d)
	}
	// Delayed one after the other, the chunks of 3 MiB would take ten seconds.
	if d := roundTrip(t, c, 3<<20); d < 100*time.Millisecond || d > 5*time.Second {
		t.Errorf("3 MiB took %v", d)
	}
}

func TestRateAndSplit(t *testing.T) {
	p, c := echo(t)
	p.Set(faultproxy.Up, faultproxy.Faults{Rate: 100_000})
	if d := roundTrip(t, c, 20_000); d < 150*time.Millisecond {
		t.Errorf("20,000 bytes at 100,000 a second took %v", d)
	}
	p.Set(faultproxy.Up, faultproxy.Faults{Split: 3})
	roundTrip(t, c, 10_000)
}

func TestSwallowOneWay(t *testing.T) {
	p, c := echo(t)
	p.Set(faultproxy.Down, faultproxy.Faults{Swallow: true})
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 8)); !errors.Is(err, errTimeout(err)) {
		t.Errorf("read %d bytes, %v; want a timeout", n, err)
	}
	if p.Conns() != 1 {
		t.Error("the connection does not stand any more")
	}
}

// errTimeout returns err when it is a timeout, and otherwise an error that nothing matches.
func errTimeout(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return err
	}
	return errors.New("a timeout")
}

func TestCutAfter(t *testing.T) {
	for _, reset := range []bool{false, true} {
		p, c := echo(t)
		p.Set(faultproxy.Down, faultproxy.Faults{CutAfter: 5, Reset: reset})
		if _, err := c.Write([]byte("12345678")); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if string(got) != "12345" {
			t.Errorf("reset %v: got %q before the cut, want 12345", reset, got)
		}
		if reset != errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reset %v: the cut was %v", reset, err)
		}
		roundTrip(t, dial(t, p), 100) // once
	}
}

func TestLead(t *testing.T) {
	p, c := echo(t)
	roundTrip(t, c, 10)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p.Lead(other.Addr().String())
	d := dial(t, p)
	arrived, err := other.Accept()
	if err != nil {
		t.Fatal(err)
	}
	arrived.Close()
	if _, err := d.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a new connection does not lead to the new target: %v", err)
	}
	roundTrip(t, c, 10) // the old one goes on
}

func TestReset(t *testing.T) {
	p, c := echo(t)
	roundTrip(t, c, 10)
	p.Reset()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a RST", err)
	}
	roundTrip(t, dial(t, p), 10)
}

func TestRefuse(t *testing.T) {
	p, c := echo(t)
	roundTrip(t, c, 10)
	p.Refuse()
	if c, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, %v; want a refusal", c, err)
	}
	roundTrip(t, c, 10)
	if err := p.Admit(); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, dial(t, p), 10)
}

func TestHold(t *testing.T) {
	p, c := echo(t)
	p.Set(faultproxy.Down, faultproxy.Faults{Hold: true})
	var over atomic.Bool
	time.AfterFunc(50*time.Millisecond, func() {
		over.Store(true)
		p.Set(faultproxy.Down, faultproxy.Faults{})
	})
	roundTrip(t, c, 1<<20)
	if !over.Load() {
		t.Error("what is held came back")
	}
}
