// A MongoDB-protocol server on SQLite, for machines where no mongod can be had.
//
// FerretDB's own command refuses to start when built from its module (its version file is not in it), so this one
// starts the same server through its library.
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:27017", "address and port to listen on")
	data := flag.String("data", "data", "folder of the SQLite files; must exist")
	flag.Parse()

	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: *listen},
		Handler:   "sqlite",
		SQLiteURL: "file:" + *data + "/",
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log.Printf("ferretdb listens on %s, data in %s", *listen, *data)
	if err := server.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
