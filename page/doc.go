// Package page is a web page about a cluster, which a node serves: nodes and links, rooms by size, the sockets of a user,
// gaps and losses as they happen. It is for the people who run the servers.
//
//	p, err := page.New(page.Options{})
//	node, err := crosscast.Start(ctx, crosscast.Options{OnGap: p.OnGap, OnLoss: p.OnLoss, OnLink: p.OnLink, …})
//	http.Handle("/cluster/", yourAuthentication(http.StripPrefix("/cluster", p.Handler(node))))
//
// The page checks no password. Serve it behind your own authentication, or on an address that only operators reach. It
// shows the names of rooms and users.
//
// # What it costs
//
// Nothing, while nobody looks. While somebody does, the other nodes are queried for their Stats every two seconds, once
// for all viewers of this node. The rooms and the sockets of a user are queried only on demand.
//
// # What it can change
//
// Nothing, unless Options.Who is set. Then the page can also send a notice to the clients, and disconnect a user. Both
// are POST requests, which http.CrossOriginProtection guards: another site cannot send them with an operator's cookies.
// Each is logged with the person's name.
package page
