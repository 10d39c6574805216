// Purges a URL and tags, and waits until no node can serve them any more. Go's standard library is all it needs.
//
//	export BATOFF_API=https://purge.example.net BATOFF_SITE=shop BATOFF_TOKEN=bto_live_… BATOFF_SECRET=bts_live_…
//	go run purge.go https://www.example.com/index.html product:42 category:shoes
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var (
	api    = strings.TrimRight(os.Getenv("BATOFF_API"), "/")
	site   = os.Getenv("BATOFF_SITE")
	client = http.Client{Timeout: 60 * time.Second}
)

type task struct {
	ID            string          `json:"task_id"`
	State         string          `json:"state"`
	PropagationMs int             `json:"propagation_ms"`
	Nodes         json.RawMessage `json:"nodes"`
}

// What a refusal says: application/problem+json, RFC 9457.
type problem struct {
	Title, Code, Detail string
	Status              int
	Errors              []struct{ Pointer, Parameter, Detail string }
}

func (p problem) Error() string {
	text := fmt.Sprintf("%s (%d %s): %s", p.Title, p.Status, p.Code, p.Detail)
	for _, item := range p.Errors {
		text += fmt.Sprintf("\n  %s%s: %s", item.Pointer, item.Parameter, item.Detail)
	}
	return text
}

func signature(timestamp, method, target string, body []byte, key string) string {
	hash := sha256.Sum256(body)
	lines := []string{timestamp, method, target, hex.EncodeToString(hash[:])}
	if key != "" {
		lines = append(lines, key)
	}
	mac := hmac.New(sha256.New, []byte(os.Getenv("BATOFF_SECRET")))
	mac.Write([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(mac.Sum(nil))
}

// send signs anew for each try, over the very bytes that it sends; the key makes all tries one purge.
func send(method, target string, body []byte, key string) (task, error) {
	for attempt := 0; ; attempt++ {
		answer, again, pause, err := try(method, target, body, key)
		if err == nil || !again || attempt == 4 {
			return answer, err
		}
		if pause == 0 {
			pause = 1 << attempt
		}
		time.Sleep(time.Duration(pause) * time.Second)
	}
}

func try(method, target string, body []byte, key string) (answer task, again bool, pause int, err error) {
	now := time.Now()
	timestamp := fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond())
	request, err := http.NewRequest(method, api+target, bytes.NewReader(body))
	if err != nil {
		return answer, false, 0, err
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("BATOFF_TOKEN"))
	request.Header.Set("X-Batoff-Timestamp", timestamp)
	request.Header.Set("X-Batoff-Signature", "sha256="+signature(timestamp, method, target, body, key))
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	reply, err := client.Do(request)
	if err != nil { // no connection, or one that broke: whether the request arrived is unknown
		return answer, true, 0, err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return answer, true, 0, err
	}
	if reply.StatusCode < 300 {
		return answer, false, 0, json.Unmarshal(text, &answer)
	}
	again = reply.StatusCode == 429 || reply.StatusCode == 503
	pause, _ = strconv.Atoi(reply.Header.Get("Retry-After"))
	var refused problem
	if json.Unmarshal(text, &refused) != nil || refused.Code == "" {
		return answer, again, pause, fmt.Errorf("HTTP status %s: %.200s", reply.Status, text)
	}
	return answer, again, pause, refused
}

func purge(url string, tags []string) error {
	// One key for one purge. A deploy script takes the id of its deployment, and may run again without harm.
	key := os.Getenv("BATOFF_KEY")
	if key == "" {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return err
		}
		key = hex.EncodeToString(random)
	}
	body, err := json.Marshal(map[string][]string{"urls": {url}, "tags": tags})
	if err != nil {
		return err
	}
	now, err := send("POST", "/v1/sites/"+site+"/purge", body, key)
	if err != nil {
		return err
	}
	fmt.Println(now.ID) // from here on it takes effect, whatever happens to this program

	for deadline := time.Now().Add(time.Minute); now.State != "completed"; {
		if time.Now().After(deadline) {
			return fmt.Errorf("not completed after 60 s: %s, %s", now.State, now.Nodes)
		}
		// The answer is held until it is completed, at most 20 s. The query is a part of what is signed.
		if now, err = send("GET", "/v1/sites/"+site+"/purge/"+now.ID+"?wait=20", nil, ""); err != nil {
			return err
		}
	}
	fmt.Printf("completed in %d ms on %s\n", now.PropagationMs, now.Nodes)
	return nil
}

func main() {
	for _, name := range []string{"API", "SITE", "TOKEN", "SECRET"} {
		if os.Getenv("BATOFF_"+name) == "" {
			fmt.Fprintln(os.Stderr, "set BATOFF_"+name)
			os.Exit(64)
		}
	}
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: purge.go URL [TAG…]")
		os.Exit(64)
	}
	if err := purge(os.Args[1], append([]string{}, os.Args[2:]...)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
