// A MongoDB-protocol server on SQLite, for machines where no mongod can be had.
//
// FerretDB's own command refuses to start when built from its module (its version file is not in it), so this one
// starts the same server through its library. In front of it stands a gate that lets one command through at a time:
// FerretDB 1.24 reads, changes and writes back the whole document, so that of two clients that set different fields
// of one document at the same moment, as the two consumers do, one would lose its update.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:27017", "address and port to listen on")
	data := flag.String("data", "data", "folder of the SQLite files; must exist")
	flag.Parse()

	// Relative to the data folder, the path of the socket is short enough for every system.
	if err := os.Chdir(*data); err != nil {
		log.Fatal(err)
	}
	const socket = "socket"
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Fatal(err)
	}

	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{Unix: socket},
		Handler:   "sqlite",
		SQLiteURL: "file:./",
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	go func() {
		if err := newGate(socket).serve(ctx, *listen); err != nil {
			log.Print(err)
			stop()
		}
	}()
	log.Printf("ferretdb listens on %s, data in %s", *listen, *data)
	if err := server.Run(ctx); err != nil {
		log.Print(err)
	}
}
