// Command hub_before is a chat server of a single process, the way many are written with gorilla/websocket: a hub that
// keeps its clients in a map, and a loop that is the only one to touch it. Command hub is the same on many processes.
package main
