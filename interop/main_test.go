// Package interop makes Go nodes and real Socket.IO servers on Node.js one cluster, and checks what README.md says
// of it. It is a module of its own because of what it needs: Node.js, and packages of npm (npm ci --prefix
// interop).
package interop

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // every fault that a test makes is a line or more
	goleak.VerifyTestMain(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
