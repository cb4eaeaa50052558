module github.com/crosscast/crosscast/examples/gorilla

go 1.26.0

require (
	github.com/crosscast/crosscast v0.0.0
	github.com/gorilla/websocket v1.5.3
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/redis/go-redis/v9 v9.23.0 // indirect
	github.com/vmihailenco/msgpack/v5 v5.3.6 // indirect
	github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

replace github.com/crosscast/crosscast => ../..
