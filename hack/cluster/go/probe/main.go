// Command probe is the one program in the self-test's pods: it serves, reads, calls, or eats memory.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	arguments := os.Args[1:]
	if len(arguments) == 0 {
		arguments = []string{"serve"}
	}
	if err := run(arguments[0], arguments[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func run(command string, arguments []string) error {
	switch command {
	case "serve":
		return serve()
	case "cat":
		content, err := os.ReadFile(arguments[0])
		fmt.Print(string(content))
		return err
	case "get":
		return get(arguments[0], "")
	case "api":
		token, err := os.ReadFile(serviceAccount + "token")
		if err != nil {
			return err
		}
		address := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
		return get("https://"+address+"/version", strings.TrimSpace(string(token)))
	case "lookup":
		began := time.Now()
		_, err := net.LookupHost(arguments[0])
		fmt.Printf("%v after %d ms\n", err, time.Since(began).Milliseconds())
		return nil
	case "eat":
		return eat()
	}
	return fmt.Errorf("no command %q", command)
}

func serve() error {
	name, _ := os.Hostname()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello from %s\n", name) })
	fmt.Println("serving as user", os.Getuid())
	return http.ListenAndServe(":8080", nil)
}

func get(url, token string) error {
	// The probe asks whether the way is open, not whether the other end is genuine.
	client := http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	fmt.Println(answer.StatusCode, string(body))
	return err
}

func eat() error {
	var kept [][]byte
	for {
		block := make([]byte, 4<<20)
		for index := range block {
			block[index] = 1
		}
		kept = append(kept, block)
		time.Sleep(10 * time.Millisecond)
	}
}
