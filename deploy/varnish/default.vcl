# A complete configuration: /etc/varnish/default.vcl, with batoff.vcl beside it.
vcl 4.1;

backend default {
    .host = "127.0.0.1";
    .port = "8080";
}

# Your own subroutines go here, before the include.

include "./batoff.vcl";
