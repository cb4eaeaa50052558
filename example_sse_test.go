package crosscast_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/crosscast/crosscast"
)

// events serves one room of node as server-sent events.
func events(node *crosscast.Node) http.HandlerFunc {
	// A line ends an event's field, and JSON may be sent with line breaks between its tokens.
	oneLine := strings.NewReplacer("\n", " ", "\r", " ")
	return func(w http.ResponseWriter, r *http.Request) {
		if err := node.Accepts(); err != nil { // the node drains, or is closed: the client gets to another one
			w.Header().Set("Retry-After", "1")
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		rc := http.NewResponseController(w)
		queue := crosscast.NewQueue(func(frame []byte) error {
			if err := rc.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "data: %s\n\n", oneLine.Replace(string(frame))); err != nil {
				return err
			}
			return rc.Flush()
		}, crosscast.QueueOptions{
			// A write that still blocks returns at once, so that the handler can end.
			OnClose: func(crosscast.Reason) { _ = rc.SetWriteDeadline(time.Now()) },
		})

		socket, err := node.Connect(r.Context(), queue, crosscast.ConnectOptions{Rooms: []string{r.FormValue("room")}})
		if err != nil && socket == nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = socket.Emit(r.Context(), "ready", nil)
		select {
		case <-r.Context().Done(): // the client left
		case <-queue.Done(): // it was too slow, or the server closed it
		}
		socket.Close(crosscast.ReasonLeft)
		<-queue.Done() // w may not be used after the handler has returned
	}
}

// Server-sent events over a Queue: two servers, with a client each, that behave like one.
func ExampleQueue_serverSentEvents() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cluster := crosscast.NewCluster()
	var clients []*bufio.Scanner
	var nodes []*crosscast.Node
	for range 2 {
		node, err := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer node.Close(ctx)
		server := httptest.NewServer(events(node))
		defer server.Close()
		defer server.CloseClientConnections() // the client leaves

		response, err := http.Get(server.URL + "?room=news")
		if err != nil {
			fmt.Println(err)
			return
		}
		defer response.Body.Close()
		client := bufio.NewScanner(response.Body)
		fmt.Println(next(client))
		nodes, clients = append(nodes, node), append(clients, client)
	}

	if err := nodes[0].To("news").Emit(ctx, "headline", map[string]string{"text": "hello"}); err != nil {
		fmt.Println(err)
	}
	for _, client := range clients {
		fmt.Println(next(client))
	}
	// Output:
	// {"event":"ready"}
	// {"event":"ready"}
	// {"event":"headline","data":{"text":"hello"}}
	// {"event":"headline","data":{"text":"hello"}}
}

// next returns the next event of a stream.
func next(client *bufio.Scanner) string {
	for client.Scan() {
		if data, ok := strings.CutPrefix(client.Text(), "data: "); ok {
			return data
		}
	}
	return fmt.Sprint("the stream has ended: ", client.Err())
}
