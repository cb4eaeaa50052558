package redisadapter_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast/internal/reasons"
	"github.com/crosscast/crosscast/internal/redistest"
)

// vault has the present password of the user "node".
type vault struct {
	mu       sync.Mutex // guards the fields below
	password string
	err      error
	queried  int
}

func (v *vault) set(password string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.password, v.err = password, err
}

func (v *vault) queries() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.queried
}

// credentials is for CredentialsProviderContext of a client.
func (v *vault) credentials(context.Context) (user, password string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.queried++
	return "node", v.password, v.err
}

// TestARotatedPassword: a client's CredentialsProviderContext is queried for each connection of both halves. A node
// whose password changes goes on without a restart, also if the new password comes late. No log has a password.
func TestARotatedPassword(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprint("redis/RESP", protocol), func(t *testing.T) {
			s := redistest.Start(t, redistest.Config{})
			v := &vault{password: "first-secret"}
			o := s.Options()
			o.Protocol, o.CredentialsProviderContext = protocol, v.credentials
			m := rotates(t, v, []*redistest.Server{s}, s.Client(), redistest.Client(t, o))
			if protocol == 2 {
				rotatesLate(t, v, s, m)
			}
		})
	}
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, 3)
		v := &vault{password: "first-secret"}
		o := *c.Client().Options()
		o.CredentialsProviderContext = v.credentials
		rdb := redis.NewClusterClient(&o)
		t.Cleanup(func() { _ = rdb.Close() })
		rotates(t, v, c.Servers, c.Client(), rdb)
	})
}

// rotated is a member whose password changes, and its peer.
type rotated struct {
	*operated
	peer *member
}

func (r *rotated) hears(t *testing.T) {
	t.Helper()
	began := time.Now()
	hear(t, r.member, r.peer)
	hear(t, r.peer, r.member)
	t.Logf("it hears, and is heard, after %v", time.Since(began))
}

// rotate gives the user a password, and ends the connections that logged in with another one.
func rotate(t *testing.T, s *redistest.Server, password string) {
	t.Helper()
	acl(t, s, "node", "reset", "on", ">"+password, "&cc:*", "+publish", "+subscribe", "+unsubscribe", "+ping", "+role",
		"+cluster|slots")
	if err := s.Client().Do(t.Context(), "client", "kill", "user", "node").Err(); err != nil {
		t.Fatal(err)
	}
}

func rotates(t *testing.T, v *vault, servers []*redistest.Server, other, rdb redis.UniversalClient) *rotated {
	for _, s := range servers {
		rotate(t, s, "first-secret")
	}
	r := &rotated{peer: join(t, "peer", other)}
	r.operated = operate(t, "m", rdb)
	r.hears(t)
	before := v.queries()
	v.set("second-secret", nil)
	for _, s := range servers {
		rotate(t, s, "second-secret")
	}
	r.hears(t)
	if n := v.queries() - before; n < 2 {
		t.Errorf("%d queries for a password, want one for each half", n)
	}
	return r
}

// rotatesLate changes the password again, before the vault has it.
func rotatesLate(t *testing.T, v *vault, s *redistest.Server, r *rotated) {
	r.live(t)
	r.forget()
	rotate(t, s, "third-secret")
	r.sees(t, "subscribing", subscribing, reasons.LinkDenied, "WRONGPASS")
	v.set("", errors.New("the vault is sealed"))
	r.eventually(t, "the cause is another one", func() bool {
		err := r.Link().Subscribing.Err
		return err != nil && strings.Contains(err.Error(), "the vault is sealed")
	})
	v.set("third-secret", nil)
	r.hears(t)
	r.saw.mu.Lock()
	defer r.saw.mu.Unlock()
	if all := strings.Join(r.saw.lines, "\n"); strings.Contains(all, "-secret") {
		t.Errorf("the log shows a password:\n%s", all)
	}
}
