//! How the nouns look on the wire: protobuf and gRPC generated from proto/, with conversions
