package natsadapter_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/natsadapter"
)

// FuzzNames: for any two rooms in any two namespaces, what is emitted to one has one subject of four tokens, which is
// the other's only if both are the same room. A subscription to one hears nothing of the other.
func FuzzNames(f *testing.F) {
	for _, names := range [][4]string{
		{"/", "a.>", "/", "a.b"}, {"/", "*", "/", "x"}, {"/", ">", "/", "x"}, {"/", "a b", "/", "a  b"}, {"/", ".", "/", ".."},
		{"/a", "b:c", "/a:b", "c"}, {"/", "a", "/", "A"}, {"/", "café", "/", "cafe\u0301"}, {"/", "a%2E", "/", "a."},
		{"/", "\x00\r\n", "/", "\xff"}, {"$SYS", "$SYS", "u", "r"}, {"/", "_INBOX.1", "/", "_INBOX"}, {"/", ":", "/:", ":"},
	} {
		f.Add(names[0], names[1], names[2], names[3])
	}
	s := startServer(f, server.Options{})
	start := func(name string) *crosscast.Node {
		n, err := crosscast.Start(within(f), crosscast.Options{Name: name, Adapter: natsadapter.Dial(s.url(), natsadapter.Options{})})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { n.Close(within(f)) })
		return n
	}
	from, to := start("from"), start("to")
	subjects, err := s.client(f).SubscribeSync("cc.r.>")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, space1, room1, space2, room2 string) {
		heard := make(chan string, 4)
		type name struct{ space, room string }
		all := []name{{space1, room1}, {space2, room2}}
		var emitting []*crosscast.Namespace
		for i, n := range all {
			e, err := from.Of(n.space)
			l, listenErr := to.Of(n.space)
			if errors.Join(err, listenErr) != nil {
				return // not a name
			}
			s, err := l.Subscribe(t.Context(), crosscast.Receiver{
				OnMessage: func(_ *crosscast.Subscription, m *crosscast.Message) { heard <- fmt.Sprint(i, " heard ", m.Event) },
			}, n.room)
			if err != nil {
				return
			}
			defer s.Close()
			emitting = append(emitting, e)
		}
		seen := make(map[string]name)
		for i, n := range all {
			if err := emitting[i].To(n.room).Emit(t.Context(), fmt.Sprint(i), nil); err != nil {
				t.Fatal(err)
			}
			if err := from.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			m, err := subjects.NextMsg(patience)
			if err != nil {
				t.Fatalf("%q: %v", n, err)
			}
			if other, ok := seen[m.Subject]; ok && other != n || len(strings.Split(m.Subject, ".")) != 4 {
				t.Fatalf("%q has the subject %s, and %q, too", n, m.Subject, other)
			}
			seen[m.Subject] = n
		}
		want := 2
		if all[0] == all[1] {
			want = 4
		}
		for range want {
			select {
			case got := <-heard:
				if want == 2 && got != "0 heard 0" && got != "1 heard 1" {
					t.Fatalf("%q and %q: %s", all[0], all[1], got)
				}
			case <-within(t).Done():
				t.Fatalf("%q and %q: not all was heard", all[0], all[1])
			}
		}
	})
}

// TestLogin: credentials and TLS are those of nats.go. A key that is refused is ErrDenied.
func TestLogin(t *testing.T) {
	ca, certificate := makeCertificate(t)
	key, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, server.Options{
		TLS: true, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, TLSTimeout: 5,
		Nkeys: []*server.NkeyUser{{Nkey: public, Permissions: permissions("cc.>")}},
	})
	trust := nats.Secure(&tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12})
	a := join(t, "a", s.url(), natsadapter.Options{}, nil, trust, nats.Nkey(public, key.Sign))
	own := s.client(t, trust, nats.Nkey(public, key.Sign))
	b, err := crosscast.Start(within(t), crosscast.Options{Name: "b", Adapter: natsadapter.New(own.Opts, natsadapter.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.To("room").Emit(t.Context(), "b 1", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what b emits arrives", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.heard["b"] == 1
	})
	if err := b.Close(within(t)); err != nil {
		t.Error(err)
	}
	stranger, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	other, err := stranger.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for want, options := range map[error][]nats.Option{
		crosscast.ErrDenied: {trust, nats.Nkey(other, stranger.Sign)},
		nats.ErrTLS:         {nats.Nkey(public, key.Sign)},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err := crosscast.Start(ctx, crosscast.Options{Adapter: natsadapter.Dial(s.url(), natsadapter.Options{}, options...)})
		cancel()
		if !errors.Is(err, want) {
			t.Errorf("Start: %v, want %v", err, want)
		}
	}
}

// makeCertificate makes a certificate of 127.0.0.1, and the pool that trusts it.
func makeCertificate(t *testing.T) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(own)
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
