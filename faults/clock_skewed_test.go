//go:build skewed

package faults_test

import (
	"sync/atomic"
	_ "unsafe" // for linkname
)

//go:linkname skew time.skew
var skew atomic.Int64

func init() { clock = &skew }
