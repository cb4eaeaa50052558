package socketioadapter

import (
	"github.com/crosscast/crosscast/wire"
)

// NewDialect is what New makes an adapter of. It counts no servers.
func NewDialect(o Options) wire.Dialect {
	o, err := o.withDefaults()
	if err != nil {
		panic(err)
	}
	return newDialect(o, &census{before: make(map[string]int)})
}

// Dropped returns how many questions and answers a dialect has dropped, by reason.
func Dropped(d wire.Dialect) map[string]uint64 {
	all := make(map[string]uint64)
	d.(*dialect).addDropped(all)
	return all
}
