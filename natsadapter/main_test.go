package natsadapter_test

import (
	"os"
	"testing"

	"github.com/crosscast/crosscast/internal/redistest"
)

func TestMain(m *testing.M) {
	if os.Getenv(serverVariable) != "" {
		runServer()
		return
	}
	redistest.Main(m)
}
