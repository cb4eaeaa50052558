package conformance_test

import (
	"testing"

	"github.com/crosscast/crosscast/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m) }
