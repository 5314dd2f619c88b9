// Command trillian-memory is a Trillian log server, its administration and its
// sequencer in one process, with everything in memory.
//
// It makes so many trees, prints their ids, one a line, and serves until it is
// killed. The first line is printed when it answers requests.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/client"
	"github.com/google/trillian/extension"
	tlog "github.com/google/trillian/log"
	"github.com/google/trillian/monitoring"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/server"
	"github.com/google/trillian/server/admin"
	"github.com/google/trillian/server/interceptor"
	"github.com/google/trillian/storage/memory"
	"github.com/google/trillian/util/clock"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address of the gRPC server")
	trees := flag.Int("trees", 1, "number of log trees to make")
	flag.Parse()
	if err := run(*listen, *trees); err != nil {
		log.Fatal(err)
	}
}

func run(listen string, trees int) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	registry := storage()
	rpc := grpc.NewServer(grpc.UnaryInterceptor(interceptor.ErrorWrapper))
	trillian.RegisterTrillianAdminServer(rpc, admin.New(registry, nil))
	trillian.RegisterTrillianLogServer(rpc, server.NewTrillianLogRPCServer(registry, clock.System))

	ended := make(chan error, 1)
	go func() { ended <- rpc.Serve(listener) }()
	ctx := context.Background()
	go sequence(ctx, registry)
	if err := makeTrees(ctx, listener.Addr().String(), trees); err != nil {
		return err
	}
	return <-ended
}

func storage() extension.Registry {
	trees, metrics := memory.NewTreeStorage(), monitoring.InertMetricFactory{}
	return extension.Registry{
		AdminStorage:  memory.NewAdminStorage(trees),
		LogStorage:    memory.NewLogStorage(trees, metrics),
		QuotaManager:  quota.Noop(),
		MetricFactory: metrics,
	}
}

// sequence puts what was queued into the trees, ten times a second.
func sequence(ctx context.Context, registry extension.Registry) {
	tlog.NewOperationManager(tlog.OperationInfo{
		Registry:    registry,
		BatchSize:   50,
		NumWorkers:  1,
		RunInterval: 100 * time.Millisecond,
		TimeSource:  clock.System,
	}, tlog.NewSequencerManager(registry, 0)).OperationLoop(ctx)
}

func makeTrees(ctx context.Context, address string, trees int) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for range trees {
		request := &trillian.CreateTreeRequest{Tree: &trillian.Tree{
			TreeState:       trillian.TreeState_ACTIVE,
			TreeType:        trillian.TreeType_LOG,
			MaxRootDuration: durationpb.New(time.Hour),
		}}
		tree, err := client.CreateAndInitTree(ctx, request,
			trillian.NewTrillianAdminClient(connection), trillian.NewTrillianLogClient(connection))
		if err != nil {
			return err
		}
		fmt.Println(tree.TreeId)
	}
	return nil
}
