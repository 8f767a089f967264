// The reference's trickle server alone: one that creates channels for its clients, and one that does not.
package main

import (
	"log"
	"net/http"
	"os"

	"example.org/reference/trickle"
)

func serve(address string, creates bool) {
	mux := http.NewServeMux()
	server := trickle.ConfigureServer(trickle.TrickleServerConfig{BasePath: "/", Mux: mux, Autocreate: creates, Changefeed: creates})
	defer server.Start()()
	log.Fatal(http.ListenAndServe(address, mux))
}

func main() {
	go serve(os.Args[2], false)
	serve(os.Args[1], true)
}
