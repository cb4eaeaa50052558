// Package interop makes Go nodes and real Socket.IO servers on Node.js one cluster, and checks what README.md says
// of it. It is a module of its own because of what it needs: Node.js, and packages of npm (npm ci --prefix
// interop).
package interop

import (
	"testing"

	"github.com/crosscast/crosscast/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m) }
