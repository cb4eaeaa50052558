//go:build js

// Program wasm runs in a page. It has the page's server add two numbers, and writes the sum into the page.
package main

import (
	"context"
	"fmt"
	"net/http"
	"syscall/js"
	"time"

	"github.com/crosscast/crosscast/ws/client"
)

func main() {
	ctx := context.Background()
	url := "ws://" + js.Global().Get("location").Get("host").String() + "/ws"
	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		show(err)
		return
	}
	var sum int
	if err := c.Request(ctx, "add", []int{2, 3}, &sum); err != nil {
		show(err)
		return
	}
	show("sum", sum)
	twice(ctx, "bytes", c)
	show("closed", c.Close(ctx))

	c, err = client.Dial(ctx, url, client.Options{Subprotocols: []string{client.SubprotocolMsgPack}})
	if err != nil {
		show(err)
		return
	}
	twice(ctx, "msgpack", c)
	_ = c.Close(ctx)

	ctx, cancel := context.WithCancel(ctx)
	_, err = client.Dial(ctx, url, client.Options{
		Authorize: func(context.Context, http.Header) error { return nil },
		OnRetry:   func(*client.Client, error, time.Duration) { cancel() },
	})
	show(err)
}

// twice has the server double some bytes.
func twice(ctx context.Context, what string, c *client.Client) {
	var b []byte
	err := c.Request(ctx, "twice", []byte{0, 255}, &b)
	show(what, b, err)
}

func show(what ...any) {
	document := js.Global().Get("document")
	li := document.Call("createElement", "li")
	li.Set("textContent", fmt.Sprintln(what...))
	document.Call("getElementById", "log").Call("append", li)
}
