package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
)

const (
	headerBytes     = 16
	maxMessageBytes = 48_000_000 // what the server itself announces
	opMsg           = 2013
	flagMoreToCome  = 1 << 1 // the sender expects no answer
)

// A gate passes MongoDB wire messages on to a server, one command of all clients together at a time.
//
// Source: MongoDB Wire Protocol, "Standard Message Header" and "OP_MSG".
type gate struct {
	socket string
	one    sync.Mutex
}

func newGate(socket string) *gate { return &gate{socket: socket} }

func (g *gate) serve(ctx context.Context, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	for {
		client, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() {
			defer client.Close()
			if err := g.pass(client); err != nil && !errors.Is(err, io.EOF) {
				log.Printf("connection of %s: %v", client.RemoteAddr(), err)
			}
		}()
	}
}

// pass carries one client's commands to a connection of its own, so that cursors and handshakes stay apart.
func (g *gate) pass(client net.Conn) error {
	server, err := net.Dial("unix", g.socket)
	if err != nil {
		return err
	}
	defer server.Close()
	for {
		command, err := readMessage(client)
		if err != nil {
			return err
		}
		answer, err := g.execute(server, command)
		if err != nil {
			return err
		}
		if _, err := client.Write(answer); err != nil {
			return err
		}
	}
}

func (g *gate) execute(server net.Conn, command []byte) ([]byte, error) {
	g.one.Lock()
	defer g.one.Unlock()
	if _, err := server.Write(command); err != nil {
		return nil, err
	}
	if !expectsAnswer(command) {
		return nil, nil
	}
	return readMessage(server)
}

func expectsAnswer(message []byte) bool {
	if binary.LittleEndian.Uint32(message[12:]) != opMsg || len(message) < headerBytes+4 {
		return true
	}
	return binary.LittleEndian.Uint32(message[headerBytes:])&flagMoreToCome == 0
}

func readMessage(source io.Reader) ([]byte, error) {
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(source, header); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(header)
	if length < headerBytes || length > maxMessageBytes {
		return nil, fmt.Errorf("a message of %d bytes is not of the MongoDB protocol", length)
	}
	message := make([]byte, length)
	copy(message, header)
	_, err := io.ReadFull(source, message[headerBytes:])
	return message, err
}
