package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/crosscast/crosscast/internal/faultproxy"
)

// A fault is one thing that breaks.
type fault struct {
	kind string
	text string // what was done, for the answers
	on   func(ctx context.Context, b *bed) error
	off  func(ctx context.Context, b *bed) error
}

// plan draws each kind of fault once, and extra of them once more, in random order.
func plan(seed uint64, extra int) []fault {
	r := rand.New(rand.NewPCG(seed, 0))
	order := r.Perm(len(kinds))
	for range extra {
		order = append(order, r.IntN(len(kinds)))
	}
	r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	all := make([]fault, len(order))
	for i, k := range order {
		all[i] = kinds[k](r)
	}
	return all
}

// slowness is what a slow network adds in each direction.
const slowness = 400 * time.Millisecond

// kinds draw the particulars of each kind of fault.
var kinds = []func(*rand.Rand) fault{
	func(*rand.Rand) fault {
		return fault{
			"redis killed", "Redis was killed",
			func(_ context.Context, b *bed) error { b.killRedis(); return nil },
			func(_ context.Context, b *bed) error { return b.restartRedis() },
		}
	},
	func(*rand.Rand) fault {
		return fault{
			"redis paused", "Redis was paused (SIGSTOP)",
			func(_ context.Context, b *bed) error { return b.redis.signal(syscall.SIGSTOP) },
			func(_ context.Context, b *bed) error { return b.redis.signal(syscall.SIGCONT) },
		}
	},
	func(r *rand.Rand) fault {
		lacks := []string{"resetchannels &cc:all &cc:n:*", "-publish"}
		what := []string{"the pattern of the rooms' channels", "the command PUBLISH"}
		i := r.IntN(len(lacks))
		return fault{
			"permission taken", "the nodes' user lost " + what[i] + " (" + lacks[i] + ")",
			func(ctx context.Context, b *bed) error { return b.setUser(ctx, lacks[i]) },
			func(ctx context.Context, b *bed) error { return b.setUser(ctx, userRules) },
		}
	},
	func(*rand.Rand) fault {
		return fault{
			"password rotated", "the nodes' user got another password, and its connections were ended",
			func(ctx context.Context, b *bed) error {
				if err := b.setUser(ctx, "resetpass >another"); err != nil {
					return err
				}
				return b.admin.Do(ctx, "client", "kill", "user", userName).Err()
			},
			func(ctx context.Context, b *bed) error { return b.setUser(ctx, "resetpass >"+b.password) },
		}
	},
	ofNode("node killed", "was killed", (*bed).killNode, (*bed).startNode),
	ofNode("node paused", "was paused (SIGSTOP)", signalNode(syscall.SIGSTOP), signalNode(syscall.SIGCONT)),
	ofNode("network slow", fmt.Sprintf("had a slow network: %v more to Redis, and as much back", slowness), slowNode(slowness), slowNode(0)),
}

func ofNode(kind, what string, on, off func(*bed, int) error) func(*rand.Rand) fault {
	return func(r *rand.Rand) fault {
		i := r.IntN(nodes)
		return fault{
			kind, nodeName(i) + " " + what,
			func(_ context.Context, b *bed) error { return on(b, i) },
			func(_ context.Context, b *bed) error { return off(b, i) },
		}
	}
}

func signalNode(sig syscall.Signal) func(*bed, int) error {
	return func(b *bed, i int) error { return b.nodes[i].cmd.Process.Signal(sig) }
}

func slowNode(delay time.Duration) func(*bed, int) error {
	return func(b *bed, i int) error {
		for _, d := range []faultproxy.Direction{faultproxy.Up, faultproxy.Down} {
			b.proxies[i].Set(d, faultproxy.Faults{Delay: delay})
		}
		return nil
	}
}
