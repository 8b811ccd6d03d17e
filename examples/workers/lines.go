// Counts the lines of each file: a worker in Go.
//
//	go build lines.go
//	datamill reproduce --consumer_topic_name files --producer_topic_name lines --worker -- ./lines
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"strconv"
)

type file struct {
	ID       uint64 `json:"id"`
	Filename string `json:"filename"`
	Bytes    int    `json:"bytes"`
	Path     string `json:"path"`
}

// descriptor opens what an environment variable names.
func descriptor(variable string) *os.File {
	number, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		panic("datamill starts this program: " + err.Error())
	}
	return os.NewFile(uintptr(number), variable)
}

func work(about file, content []byte) (any, error) {
	return map[string]any{"file": about.Filename, "lines": bytes.Count(content, []byte("\n"))}, nil
}

func main() {
	source, target := bufio.NewReader(descriptor("DATAMILL_INPUT")), descriptor("DATAMILL_OUTPUT")

	say := func(header map[string]any, payload []byte) {
		text, _ := json.Marshal(header)
		frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
		if _, err := target.Write(append(frame, payload...)); err != nil {
			os.Exit(1)
		}
	}

	content := func(about file) ([]byte, error) {
		if about.Path != "" {
			return os.ReadFile(about.Path)
		}
		content := make([]byte, about.Bytes)
		_, err := io.ReadFull(source, content)
		return content, err
	}

	say(map[string]any{"type": "hello", "version": 1, "program": "lines.go"}, nil)
	for {
		var length uint32
		// the end of the input is the end of the work
		if binary.Read(source, binary.BigEndian, &length) != nil {
			return
		}
		header := make([]byte, length)
		var about file
		if _, err := io.ReadFull(source, header); err != nil || json.Unmarshal(header, &about) != nil {
			os.Exit(1)
		}
		bytes, err := content(about)
		var answer any
		if err == nil {
			answer, err = work(about, bytes)
		}
		if err != nil {
			say(map[string]any{"type": "failed", "id": about.ID, "reason": err.Error()}, nil)
			continue
		}
		result, _ := json.Marshal(answer)
		say(map[string]any{"type": "result", "id": about.ID, "bytes": len(result)}, result)
	}
}
