package ws

import (
	"github.com/crosscast/crosscast/internal/wsconn"
	"github.com/crosscast/crosscast/internal/wsinside"
)

func init() {
	wsinside.Of = func(server any) wsinside.Server { return server.(*Server).inside() }
}

func (s *Server) inside() wsinside.Server {
	return wsinside.Server{
		Namespace: s.ns, Config: &s.config, Binary: s.o.Envelope.Binary(), GapSpread: s.window(1000),
		Gap: func(g wsconn.GapNotice) []byte {
			if s.o.Gaps == GapIgnore {
				return nil
			}
			return s.gapMessage(nil, formPlain, controlOf(g))
		},
	}
}
