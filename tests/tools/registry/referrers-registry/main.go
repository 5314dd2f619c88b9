// Command referrers-registry serves an in-memory OCI registry for tests: the
// real handler of go-containerregistry, with the referrers API on or off, TLS,
// credentials and a request log around it.
//
// The first line on stdout is the address it listens on.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

type options struct {
	listen, logFile    string
	tlsCert, tlsKey    string
	referrers, verbose bool
	exitWithStdin      bool
	realm, service     string
	basic              bool
	tokenTTL           time.Duration
	pullers, pushers   accounts
	anonymous          prefixes
}

func parse() options {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	flag.BoolVar(&o.referrers, "referrers", true, "serve the OCI 1.1 referrers API")
	flag.StringVar(&o.tlsCert, "tls-cert", "", "PEM certificate chain; turns TLS on")
	flag.StringVar(&o.tlsKey, "tls-key", "", "PEM key of --tls-cert")
	flag.StringVar(&o.realm, "auth-realm", "", "ask for Bearer tokens from this URL; \"self\" is this server's own /token")
	flag.StringVar(&o.service, "auth-service", "referrers-registry", "service named in the Bearer challenge")
	flag.BoolVar(&o.basic, "auth-basic", false, "ask for Basic credentials instead of Bearer tokens")
	flag.DurationVar(&o.tokenTTL, "token-ttl", 5*time.Minute, "how long a token of /token is good for")
	flag.Var(&o.pullers, "user", "name:password:repo-prefix that may pull; may be repeated")
	flag.Var(&o.pushers, "push-user", "name:password:repo-prefix that may pull and push; may be repeated")
	flag.Var(&o.anonymous, "anonymous-prefix", "repositories anyone may pull; may be repeated")
	flag.StringVar(&o.logFile, "log", "", "append one line per request: METHOD PATH STATUS AUTH(yes/no)")
	flag.BoolVar(&o.exitWithStdin, "exit-with-stdin", false, "exit when stdin closes, so that a dead test leaves no server behind")
	flag.BoolVar(&o.verbose, "verbose", false, "let the registry handler log to stderr")
	flag.Parse()
	if flag.NArg() > 0 {
		fatal(fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}
	if (o.tlsCert == "") != (o.tlsKey == "") {
		fatal(fmt.Errorf("--tls-cert and --tls-key go together"))
	}
	if o.basic && o.realm != "" {
		fatal(fmt.Errorf("--auth-basic and --auth-realm exclude each other"))
	}
	if !o.basic && o.realm == "" && len(o.pullers)+len(o.pushers)+len(o.anonymous) > 0 {
		fatal(fmt.Errorf("users and anonymous prefixes need --auth-realm or --auth-basic"))
	}
	return o
}

func main() {
	o := parse()
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		fatal(err)
	}
	handler, err := o.handler(listener.Addr().String())
	if err != nil {
		fatal(err)
	}
	if o.exitWithStdin {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	fmt.Println(listener.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	if o.tlsCert != "" {
		fatal(server.ServeTLS(listener, o.tlsCert, o.tlsKey))
	}
	fatal(server.Serve(listener))
}

// handler is the registry with what the options put around it, outermost last.
func (o options) handler(address string) (http.Handler, error) {
	var sink io.Writer = io.Discard
	if o.verbose {
		sink = os.Stderr
	}
	var handler http.Handler = registry.New(
		registry.Logger(log.New(sink, "", log.LstdFlags)),
		registry.WithReferrersSupport(o.referrers),
	)
	rules := rules{pullers: o.pullers, pushers: o.pushers, anonymous: o.anonymous}
	switch {
	case o.basic:
		handler = basicAuth{rules: rules, next: handler}
	case o.realm != "":
		realm := o.realm
		if realm == "self" {
			scheme := "http"
			if o.tlsCert != "" {
				scheme = "https"
			}
			realm = scheme + "://" + address + "/token"
		}
		handler = &tokenAuth{rules: rules, realm: realm, service: o.service, ttl: o.tokenTTL, next: handler}
	}
	if o.logFile == "" {
		return handler, nil
	}
	file, err := os.OpenFile(o.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	return requestLog{file: file, next: handler}, nil
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "referrers-registry:", err)
	os.Exit(1)
}
