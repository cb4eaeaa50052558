// Command hub is hub_before grown to many processes in twenty changed lines. It keeps its own clients, and uses crosscast
// for what goes from process to process, over the Redis server at localhost:6379. Start it twice:
//
//	go run ./hub -addr localhost:8080
//	go run ./hub -addr localhost:8081
package main
