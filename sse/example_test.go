package sse_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/sse"
	"github.com/crosscast/crosscast/ws"
)

// events serves the clients of a node: websockets, streams, and what clients of streams send.
func events(node *crosscast.Node) (http.HandlerFunc, error) {
	chat, err := ws.New(node.Namespace, ws.Options{Events: ws.Events{
		"say": ws.Typed(func(ctx context.Context, s *crosscast.Socket, text string) error {
			return node.To("news").Emit(ctx, "said", s.User()+": "+text)
		}),
	}})
	if err != nil {
		return nil, err
	}
	clients, err := sse.New(node, chat, sse.Options{})
	return func(w http.ResponseWriter, r *http.Request) {
		user := r.FormValue("user") // a real application authenticates
		_ = clients.Accept(w, r, ws.Client{User: user, Rooms: []string{"news"}})
	}, err
}

// Two servers, with a stream on the first. Its client sends to the second one, as a load balancer might decide.
func Example() {
	ctx := context.Background()
	cluster := crosscast.NewCluster()
	var urls []string
	for range 2 {
		node, err := crosscast.Start(ctx, crosscast.Options{Adapter: cluster.Adapter()})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer node.Close(ctx)
		handler, err := events(node)
		if err != nil {
			fmt.Println(err)
			return
		}
		server := httptest.NewServer(handler)
		defer server.Close()
		defer server.CloseClientConnections() // the client leaves
		urls = append(urls, server.URL+"/?user=ann")
	}

	response, err := http.Get(urls[0])
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	stream := bufio.NewScanner(response.Body)
	var hello struct{ Token string }
	if err := json.Unmarshal([]byte(next(stream)), &hello); err != nil {
		fmt.Println(err)
		return
	}

	post, err := http.NewRequestWithContext(ctx, "POST", urls[1], strings.NewReader(`{"event":"say","data":"hello","id":1}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	post.Header.Set("Crosscast-Stream", hello.Token)
	answer, err := http.DefaultClient.Do(post)
	if err != nil {
		fmt.Println(err)
		return
	}
	answer.Body.Close()
	fmt.Println(answer.Status)
	fmt.Println(next(stream))
	fmt.Println(next(stream))
	// Output:
	// 204 No Content
	// {"event":"said","data":"ann: hello"}
	// {"id":1}
}

// next returns the data of the next event.
func next(stream *bufio.Scanner) string {
	for stream.Scan() {
		if data, ok := strings.CutPrefix(stream.Text(), "data: "); ok {
			return data
		}
	}
	return fmt.Sprint("the stream has ended: ", stream.Err())
}
