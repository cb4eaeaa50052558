// Package faults is a matrix of faults and of what must come out, run with real processes: redis-server, nats-server (this
// test binary again), and nodes that are killed and stopped by signals. docs/faults.md has the table of results.
//
//	go test .                                        # the harness, the books and the table, without the matrix
//	go test -run TestMatrix -matrix short            # what .ci/run does: rows once, on the cheapest server, shortened
//	go test -run TestMatrix -matrix full -timeout 9h # the whole matrix: each row on every kind of server
//	go test -run TestMatrix -matrix full -rows 1,8 -servers RESP3 -v
//	go test -run TestMatrix -matrix full -servers 'NATS, 3 servers' # one column, by its whole name
//	go test -run TestMatrix -matrix full -keep ...   # also enters the results in results.json and the table
//	go test -run TestMatrix -matrix full -rows 46 -for 30m -timeout 1h -v # random faults, five nodes
//	go test -run TestTable -write                    # makes the table again, after a row was added
//
// # Books
//
// Every node writes a journal of what it emitted, received and reported; its parent makes one ledger of them, with the
// faults and their times. Package books balances it. For every receiver, each emission came once and in order, or is part
// of a gap in its place, or Emit refused it. A gap that no fault explains fails the row, and so does a gap that is more
// than two heartbeats (in a Redis Cluster, and with NATS, seven) longer than what was missed. After the fault, goroutines, memory
// and files are back where they were.
//
// Rows with fullOnly set are not in the short matrix. docs/faults.md names them.
//
// The ledger of a run that fails stays in a directory, which the failure names:
//
//	go run ./replay DIRECTORY                        # balances it again, and prints what happened
//	go test -run TestMatrix -rows 4 -seed 123 ...    # repeats the schedule
//
// # To add a row
//
// A row is a value of type row, which one of the files rows_*_test.go registers:
//
//	var _ = register(&row{
//		number: 8, fault: "what is done", expect: "what must come out", kinds: single, alone: true, run: halfOpen,
//	})
//
//	func halfOpen(b *bed) {
//		b.start()                                // servers, and nodes n1 to n3, which emit to a room all the time
//		b.allow(books.Allow{…})                  // which gaps the fault explains; all others fail the row
//		mended := b.fault("what is done")        // from now on …
//		…
//		mended()                                 // … until now
//		b.settle()                               // ends the traffic; all hear each other again
//		b.recovered(time.Second)                 // how long it took
//	}
//
// Whatever checks times has alone set. kinds are the kinds of server that the row runs on, the cheapest first. On kinds
// that have a column of their own (row_test.go), the row runs, or says in the field not why it does not apply. The bed
// (bed_test.go) has what rows need; a node (node_test.go) is a process, and what can be commanded is in child_test.go.
// The books, the base and panics are checked after each row. Then: go test -run TestTable -write.
package faults
