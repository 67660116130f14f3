# frozen_string_literal: true

require "fluent/plugin/filter"
require_relative "csecbridge_document"

module Fluent
  module Plugin
    # `@type csecbridge_document`: makes the document of each whole line.
    class CSecBridgeDocumentFilter < Filter
      Fluent::Plugin.register_filter("csecbridge_document", self)

      config_param :environment, :string
      config_param :node, :string

      def configure(conf)
        super
        @documents = ::CSecBridgeDocument.new(environment: @environment, node: @node)
      end

      def filter(tag, _time, record)
        @documents.of(tag, record)
      end
    end
  end
end
