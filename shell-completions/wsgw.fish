# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_wsgw_global_optspecs
    string join \n h/help V/version
end

function __fish_wsgw_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_wsgw_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_wsgw_using_subcommand
    set -l cmd (__fish_wsgw_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c wsgw -n "__fish_wsgw_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgw -n "__fish_wsgw_needs_command" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "serve" -d 'Run gateways until SIGINT or SIGTERM'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "send" -d 'Push a message to the connected clients'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "connect" -d 'Connect to a WebSocket server, by hand or from a pipe'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "status" -d 'Show every gateway, or one: state, address, connections, listener, messages'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "start" -d 'Start a gateway'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "stop" -d 'Stop a gateway; its connections are closed with 1001'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "restart" -d 'Stop and start a gateway, or replace its listener alone'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "reload" -d 'Re-read the config file; an invalid one changes nothing'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "connections" -d 'List the open connections, of all gateways or of one'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "close" -d 'Close one connection'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "completions" -d 'Print the completion script of a shell'
complete -c wsgw -n "__fish_wsgw_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l config -d 'Config file (TOML) [default: wsgw/wsgw.toml in the user\'s config directory, then /etc/wsgw/wsgw.toml]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l id -d 'The gateway that the flags are about [default: default]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l control -d 'Control port: ADDR:PORT, unix:PATH or off [default: 127.0.0.1:10124]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l control-token-file -d 'Take the control token from this file instead of making one' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l log-dir -d 'Directory of WebSocket.log; a given one that cannot be written is fatal [default: logs in the user\'s state directory]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l log-level -d 'error, warn, info, debug, trace, or a filter as in RUST_LOG [default: info]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l host -d 'Address to bind, or a name; of a name with several addresses one is bound, IPv4 first [default: 127.0.0.1]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l port -d 'Port to bind, 0 for a free one [default: 10125]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l startup -d 'automatic, manual or disabled [default: automatic]' -r -f -a "automatic\t''
manual\t''
disabled\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l listener -d 'The listener as one string for `sh -c`' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l hooks -d 'Events the listener is sent: onHandshake, onClientOpen, onMessage, onClientClose, or none [default: onClientOpen,onClientClose,onMessage]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l route -d 'Who gets a message when the answer names nobody: all, others, sender or none [default: all]' -r -f -a "all\t''
others\t''
sender\t''
none\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l headers -d 'Request headers that the listener sees, * for all [default: origin, cookie, authorization, user-agent, x-forwarded-for, x-*]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l protocol -d 'Subprotocol to accept (repeatable), * for the client\'s first offer [default: *]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l path -d 'Path that accepts connections, * spans any characters (repeatable) [default: any]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l window -d 'Most unanswered events at a time [default: 256]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l listener-timeout -d 'How long an answer may take [default: 10s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l on-timeout -d 'What happens to a message that got no answer: drop, broadcast or close [default: drop]' -r -f -a "drop\t''
broadcast\t''
close\t''"
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l hang-timeout -d 'Silence after which a listener that owes an answer is killed; at least twice listener-timeout [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l restart-delay-max -d 'Longest pause before a listener is started again [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l drain -d 'How long a stop waits for unanswered events [default: 1s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l close-spread -d 'Time over which a stop spreads the closes, so that the clients do not all come back at once [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l producer-wait -d 'How long a stream of messages waits in all for one client that is slow but still reading [default: 10s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-connections -d 'Most connections at a time [default: 1000000]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-connections-per-ip -d 'Most connections from one address (IPv6: one /64), 0 for no limit [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l handshake-timeout -d 'Time to receive the handshake\'s request [default: 10s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-message -d 'Largest message from a client [default: 1MiB]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-queue -d 'Most bytes that may wait for one slow client [default: 4MiB]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l ping-interval -d 'Time between pings, 0 for none [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l pong-timeout -d 'Time to answer a ping [default: 30s]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l idle-timeout -d 'Time without a message either way after which a connection is closed, 0 for never [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l allow-origin -d 'Origin that may connect, scheme://host or scheme://host:port, * as a wildcard (repeatable) [default: localhost on a loopback address, else the same host]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l trusted-proxies -d 'Proxy (address or CIDR) whose X-Forwarded-For is believed (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-rate -d 'Messages per second from one connection, 0 for no limit [default: 0]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l max-line -d 'Longest line from the listener; at least six times max-message and 64KiB [default: 16MiB]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l tls-cert -d 'Certificate chain (PEM) for wss' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -l tls-key -d 'Private key (PEM) for wss' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -s q -l quiet -d 'Do not log to stderr'
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand serve" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -s g -l gateway -d 'The gateway; may be left out when only one runs' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l to -d 'Only to this connection (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l except -d 'To all but this connection (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l data -d 'The whole struct as JSON; holds message or base64' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l retry -d 'How long to keep trying while the control port cannot be reached: seconds, or 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l base64 -d 'The message is base64 of a binary one'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l binary -d 'Stdin is one binary message'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l lines -d 'Each line of stdin is one message, sent as it comes'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l no-hook -d 'Skip the listener'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l require-one -d 'Fail (exit 4) if nobody got it'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -l json -d 'Print the result as JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -s q -l quiet -d 'Print nothing but errors'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand send" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s H -l header -d 'Add a request header, or those of a file, one a line (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s s -l subprotocol -d 'Offer a subprotocol (repeatable)' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s o -l origin -d 'Origin of the request' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s u -l user -d 'Basic authentication; NAME alone asks for the password at the terminal' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l user-file -d 'Basic authentication with the NAME:PASSWORD in this file' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s x -l execute -d 'Send this message after connecting (repeatable); stdin is not read, but with -w -1 on a terminal' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s n -l count -d 'Leave after N messages' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s w -l wait -d 'At the end of stdin, leave after so many seconds of silence; -1 stays [default: 1, with -n or --echo none]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l ping -d 'Send a ping every so many seconds' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l timeout -d 'Seconds for the whole handshake' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l color -d 'Colours: auto (on a terminal, unless NO_COLOR is set), always or never' -r -f -a "auto\t'On a terminal, unless `NO_COLOR` is set'
always\t'Always'
never\t'Never'"
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l cacert -d 'Trust the certificates of this file (PEM)' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l cert -d 'Client certificate (PEM)' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l key -d 'Key of the client certificate (PEM)' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s b -l binary -d 'Send lines as binary messages, write received ones raw'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l reconnect -d 'Connect again when the connection is lost or refused, with growing delays'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l echo -d 'Send each message back'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l pretty -d 'Indent JSON messages'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l timestamps -d 'Put the time before each message'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l insecure -d 'Do not check the server\'s certificate'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s v -l verbose -d 'Show the handshake'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -l no-history -d 'Neither read nor write the history file'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand connect" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand status" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand start" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand stop" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l listener -d 'Replace the listener alone; the clients stay'
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand restart" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand reload" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -l json -d 'Print JSON'
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand connections" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l code -d 'Close code' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l reason -d 'Close reason' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l control -d 'URL of the control port (http://ADDR:PORT, http+unix://PATH) [env: WSGW_CONTROL]' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l token-file -d 'File that holds the control token [env: WSGW_TOKEN holds the token itself]' -r -F
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -l timeout -d 'How long to wait for the answer: seconds, or 250ms, 1m30s' -r
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand close" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand completions" -s h -l help -d 'Print help'
complete -c wsgw -n "__fish_wsgw_using_subcommand completions" -s V -l version -d 'Print version'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "serve" -d 'Run gateways until SIGINT or SIGTERM'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "send" -d 'Push a message to the connected clients'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "connect" -d 'Connect to a WebSocket server, by hand or from a pipe'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "status" -d 'Show every gateway, or one: state, address, connections, listener, messages'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "start" -d 'Start a gateway'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "stop" -d 'Stop a gateway; its connections are closed with 1001'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "restart" -d 'Stop and start a gateway, or replace its listener alone'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "reload" -d 'Re-read the config file; an invalid one changes nothing'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "connections" -d 'List the open connections, of all gateways or of one'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "close" -d 'Close one connection'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "completions" -d 'Print the completion script of a shell'
complete -c wsgw -n "__fish_wsgw_using_subcommand help; and not __fish_seen_subcommand_from serve send connect status start stop restart reload connections close completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
