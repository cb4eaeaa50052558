// connect is how the page reaches its server: with the client of package ws, whose options these are.
const connect = (name, options) => new crosscast.Client("ws?name=" + encodeURIComponent(name), options);
