package socketioadapter_test

import (
	"context"
	"testing"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketio"
	"github.com/crosscast/crosscast/socketioadapter"
)

// TestServersOfAnEmptyNamespace: in a namespace for clients, a node hears the requests of servers while there are no
// clients.
func TestServersOfAnEmptyNamespace(t *testing.T) {
	ctx := redistest.Within(t, redistest.Patience)
	rdb := redistest.Client(t, redistest.Mini(t)())
	open := func() (*crosscast.Node, *socketioadapter.Adapter) {
		a := socketioadapter.New(rdb, classic)
		n, err := crosscast.Start(ctx, crosscast.Options{Adapter: a})
		must(t, err)
		t.Cleanup(func() { must(t, n.Close(context.WithoutCancel(ctx))) })
		return n, a
	}
	n, _ := open()
	must(t, n.OnRequest("where", func(_ context.Context, r *crosscast.Request) (any, error) { return r.Namespace, nil }))
	_, err := socketio.New(n, socketio.Options{Namespaces: map[string]*socketio.Namespace{"/": {}, "/chat": {}, "/news": {}}})
	must(t, err)
	other, a := open()
	for _, name := range []string{"/", "/chat", "/news"} {
		ns, err := other.Of(name)
		must(t, err)
		ns.Keep()
		eventually(t, "hearing "+name, func() bool {
			count, err := a.CountPeers(ctx, &crosscast.Instruction{Kind: kind.Request, Namespace: name}, false)
			must(t, err)
			return count == 1
		})
		got := ""
		answers := ns.Servers().Ask(ctx, "where", nil)
		for r := range answers.All() {
			got += string(r.Payload.Data)
		}
		if err := answers.Err(); got != `"`+name+`"` || err != nil {
			t.Errorf("in %s: %s, %v", name, got, err)
		}
	}
}
