"""What is in a Kafka: into a file, and back into another one.

log.py dump SERVERS FILE TOPIC... -- GROUP...   writes records and committed positions (with their texts) as JSON
log.py restore SERVERS FILE                     makes the topics anew, with the same records at the same offsets
log.py copy SERVERS FROM TO PARTITION COUNT     copies the first records of a topic to a partition of another one
"""

import base64
import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as Place


def text(data):
    return None if data is None else base64.b64encode(data).decode()


def data(encoded):
    return None if encoded is None else base64.b64decode(encoded)


def records(servers, topic):
    """All committed records of a topic, partition after partition, and the number of partitions."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "log.py", "enable.auto.commit": False})
    partitions = len(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
    found = []
    for partition in range(partitions):
        end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)[1]
        consumer.assign([TopicPartition(topic, partition, 0)])
        while consumer.position([TopicPartition(topic, partition)])[0].offset < end:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                sys.exit(str(message.error()))
            found.append(message)
    consumer.close()
    return partitions, found


def send(producer, topic, partition, key, value, headers, timestamp):
    producer.produce(topic, value, key, partition, headers=headers, timestamp=timestamp)
    producer.poll(0)


def dump(servers, file, *names):
    split = names.index("--")
    topics, groups = names[:split], names[split + 1 :]
    out = {"topics": [], "groups": []}
    for topic in topics:
        partitions, messages = records(servers, topic)
        out["topics"].append(
            {
                "name": topic,
                "partitions": partitions,
                "records": [
                    {
                        "partition": m.partition(),
                        "time": m.timestamp()[1],
                        "key": text(m.key()),
                        "value": text(m.value()),
                        "headers": [[name, text(value)] for name, value in m.headers() or []],
                    }
                    for m in messages
                ],
            }
        )
    admin = KafkaAdminClient(bootstrap_servers=servers)
    for group in groups:
        committed = admin.list_consumer_group_offsets(group)
        positions = [[place.topic, place.partition, at.offset, at.metadata] for place, at in committed.items()]
        out["groups"].append({"name": group, "positions": sorted(positions)})
    with open(file, "w") as handle:
        json.dump(out, handle, indent=1)


def restore(servers, file):
    with open(file) as handle:
        log = json.load(handle)
    admin = AdminClient({"bootstrap.servers": servers})
    # the records are as old as the file is: no age takes them away
    made = admin.create_topics(
        [
            NewTopic(
                topic["name"],
                topic["partitions"],
                1,
                config={"retention.ms": "-1"} | ({"cleanup.policy": "compact"} if topic["name"].endswith(".state") else {}),
            )
            for topic in log["topics"]
        ]
    )
    for future in made.values():
        future.result()
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
    for topic in log["topics"]:
        for record in topic["records"]:
            headers = [(name, data(value)) for name, value in record["headers"]]
            key, value = data(record["key"]), data(record["value"])
            send(producer, topic["name"], record["partition"], key, value, headers, record["time"])
    if producer.flush(60):
        sys.exit("not all records were taken")
    for group in log["groups"]:
        # confluent_kafka would end each text with a zero byte
        member = KafkaConsumer(bootstrap_servers=servers, group_id=group["name"], enable_auto_commit=False)
        positions = {
            Place(topic, partition): OffsetAndMetadata(offset, metadata, -1)
            for topic, partition, offset, metadata in group["positions"]
        }
        member.commit(positions)
        member.close()


def copy(servers, source, target, partition, count):
    _, messages = records(servers, source)
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
    for m in messages[: int(count)]:
        send(producer, target, int(partition), m.key(), m.value(), m.headers() or [], m.timestamp()[1])
    if producer.flush(60):
        sys.exit("not all records were taken")


{"dump": dump, "restore": restore, "copy": copy}[sys.argv[1]](*sys.argv[2:])
