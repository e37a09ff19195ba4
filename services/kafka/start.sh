#!/bin/sh
# Completes server.properties for this broker, formats its storage once, and becomes the broker.
#
#   KAFKA_BROKERS     brokers in the cluster, all of them controllers too (default 1)
#   KAFKA_SERVICE     name of the headless Service: broker N is at NAME-N.KAFKA_SERVICE; empty: this one alone
#   KAFKA_CLUSTER_ID  22 characters of base64, the same for all brokers
#   KAFKA_DATA        folder of the log (default /data)
#   KAFKA_HEAP        Java heap (default 512m)
set -eu
brokers=${KAFKA_BROKERS:-1} service=${KAFKA_SERVICE:-} data=${KAFKA_DATA:-/data}
id=1 name=localhost voters=1@localhost:9093
if [ -n "$service" ]; then
  base=${HOSTNAME%-*} ordinal=${HOSTNAME##*-}
  id=$((ordinal + 1)) name=$HOSTNAME.$service voters=
  for n in $(seq 0 $((brokers - 1))); do voters=$voters${voters:+,}$((n + 1))@$base-$n.$service:9093; done
fi
copies=$((brokers < 3 ? brokers : 3)) in_sync=$((brokers < 3 ? 1 : 2))
config=/tmp/server.properties
{
  grep -vE '^(node.id|controller.quorum.voters|advertised.listeners|log.dirs|offsets.topic.replication.factor|(transaction|share.coordinator).state.*(replication.factor|min.isr))=' /kafka/server.properties
  echo "node.id=$id"
  echo "controller.quorum.voters=$voters"
  echo "advertised.listeners=PLAINTEXT://$name:9092"
  echo "log.dirs=$data/log"
  echo "offsets.topic.replication.factor=$copies"
  echo "transaction.state.log.replication.factor=$copies"
  echo "transaction.state.log.min.isr=$in_sync"
  echo "share.coordinator.state.topic.replication.factor=$copies"
  echo "share.coordinator.state.topic.min.isr=$in_sync"
} > $config
# The flags of latencylab/backends/local_stack.py, so that both backends measure the same broker.
heap=${KAFKA_HEAP:-512m}
flags="-Xms256m -Xmx$heap -XX:+UseSerialGC -Xshare:auto -Dlog4j2.configurationFile=/kafka/log4j2.properties"
if [ ! -e "$data/log/meta.properties" ]; then
  java $flags -cp '/kafka/libs/*' kafka.tools.StorageTool format "--cluster-id=${KAFKA_CLUSTER_ID:?}" --config $config
fi
exec java $flags -XX:+ExitOnOutOfMemoryError -cp '/kafka/libs/*' kafka.Kafka $config
